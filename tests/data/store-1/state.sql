PRAGMA application_id = 1316115316;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE alerts (
            id INTEGER PRIMARY KEY, change INTEGER NOT NULL, state INTEGER NOT NULL, severity INTEGER NOT NULL,
            alert TEXT NOT NULL, rule TEXT NOT NULL, key TEXT NOT NULL, count INTEGER NOT NULL,
            last_seen INTEGER NOT NULL, last_event INTEGER NOT NULL, expires_at INTEGER, resolved_at INTEGER,
            journal INTEGER NOT NULL, record TEXT NOT NULL);
INSERT INTO "alerts" VALUES(1795667732604870,1795667733891598,1,3,'InterfaceDown','link','InterfaceDown127.0.0.11',2,1795667732817696,1795667732818008,NULL,NULL,1,'{"id":1795667732604870,"change":1795667733891598,"alert":"InterfaceDown","rule":"link","severity":"major","state":"acknowledged","key":"InterfaceDown\u001f127.0.0.1\u001f1","labels":[["alertname","InterfaceDown"],["ifIndex","1"],["severity","major"],["source","127.0.0.1"]],"annotations":[],"count":2,"first_seen":"2026-11-26T04:35:32.604488Z","last_seen":"2026-11-26T04:35:32.817696Z","last_event":1795667732818008,"resolved_at":null,"resolved_by":null,"quiet_until":"2026-11-26T04:40:32.604488Z","expires_at":null,"notify":["log"],"by_hand":{"acknowledged_by":"ann","acknowledged_at":"2026-11-26T04:35:33.891598Z","closed_by":null}}');
INSERT INTO "alerts" VALUES(1795667733026058,1795667733234456,2,3,'InterfaceDown','link','InterfaceDown127.0.0.12',1,1795667733234113,1795667733234456,NULL,1795667733234113,1,'{"id":1795667733026058,"change":1795667733234456,"alert":"InterfaceDown","rule":"link","severity":"major","state":"resolved","key":"InterfaceDown\u001f127.0.0.1\u001f2","labels":[["alertname","InterfaceDown"],["ifIndex","2"],["severity","major"],["source","127.0.0.1"]],"annotations":[],"count":1,"first_seen":"2026-11-26T04:35:33.025738Z","last_seen":"2026-11-26T04:35:33.234113Z","last_event":1795667733234456,"resolved_at":"2026-11-26T04:35:33.234113Z","resolved_by":"trap","quiet_until":null,"expires_at":null,"notify":["log"]}');
CREATE TABLE dead_letters (
            id INTEGER PRIMARY KEY AUTOINCREMENT, webhook TEXT NOT NULL, time INTEGER NOT NULL,
            record TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE outbox (
            id INTEGER PRIMARY KEY AUTOINCREMENT, webhook TEXT NOT NULL, alert INTEGER NOT NULL,
            change INTEGER NOT NULL, queued INTEGER NOT NULL, attempts INTEGER NOT NULL,
            not_before INTEGER NOT NULL, record TEXT NOT NULL);
INSERT INTO "outbox" VALUES(1,'log',1795667732604870,1795667732604870,1795667732606918,1,1795669890814917,'{"id":1795667732604870,"change":1795667732604870,"alert":"InterfaceDown","rule":"link","severity":"major","state":"firing","key":"InterfaceDown\u001f127.0.0.1\u001f1","labels":[["alertname","InterfaceDown"],["ifIndex","1"],["severity","major"],["source","127.0.0.1"]],"annotations":[],"count":1,"first_seen":"2026-11-26T04:35:32.604488Z","last_seen":"2026-11-26T04:35:32.604488Z","last_event":1795667732604870,"resolved_at":null,"resolved_by":null,"quiet_until":"2026-11-26T04:40:32.604488Z","expires_at":null,"notify":["log"]}');
INSERT INTO "outbox" VALUES(2,'log',1795667733026058,1795667733026058,1795667733027802,0,0,'{"id":1795667733026058,"change":1795667733026058,"alert":"InterfaceDown","rule":"link","severity":"major","state":"firing","key":"InterfaceDown\u001f127.0.0.1\u001f2","labels":[["alertname","InterfaceDown"],["ifIndex","2"],["severity","major"],["source","127.0.0.1"]],"annotations":[],"count":1,"first_seen":"2026-11-26T04:35:33.025738Z","last_seen":"2026-11-26T04:35:33.025738Z","last_event":1795667733026058,"resolved_at":null,"resolved_by":null,"quiet_until":"2026-11-26T04:40:33.025738Z","expires_at":null,"notify":["log"]}');
INSERT INTO "outbox" VALUES(3,'log',1795667733026058,1795667733234456,1795667733239461,0,0,'{"id":1795667733026058,"change":1795667733234456,"alert":"InterfaceDown","rule":"link","severity":"major","state":"resolved","key":"InterfaceDown\u001f127.0.0.1\u001f2","labels":[["alertname","InterfaceDown"],["ifIndex","2"],["severity","major"],["source","127.0.0.1"]],"annotations":[],"count":1,"first_seen":"2026-11-26T04:35:33.025738Z","last_seen":"2026-11-26T04:35:33.234113Z","last_event":1795667733234456,"resolved_at":"2026-11-26T04:35:33.234113Z","resolved_by":"trap","quiet_until":null,"expires_at":null,"notify":["log"]}');
INSERT INTO "outbox" VALUES(4,'log',1795667732604870,1795667733891598,1795667733892338,0,0,'{"id":1795667732604870,"change":1795667733891598,"alert":"InterfaceDown","rule":"link","severity":"major","state":"acknowledged","key":"InterfaceDown\u001f127.0.0.1\u001f1","labels":[["alertname","InterfaceDown"],["ifIndex","1"],["severity","major"],["source","127.0.0.1"]],"annotations":[],"count":2,"first_seen":"2026-11-26T04:35:32.604488Z","last_seen":"2026-11-26T04:35:32.817696Z","last_event":1795667732818008,"resolved_at":null,"resolved_by":null,"quiet_until":"2026-11-26T04:40:32.604488Z","expires_at":null,"notify":["log"],"by_hand":{"acknowledged_by":"ann","acknowledged_at":"2026-11-26T04:35:33.891598Z","closed_by":null}}');
CREATE TABLE position (one INTEGER PRIMARY KEY CHECK (one = 1), last_event INTEGER NOT NULL,
            last_change INTEGER NOT NULL, last_alert INTEGER NOT NULL, counted INTEGER NOT NULL,
            clean INTEGER NOT NULL);
INSERT INTO "position" VALUES(1,1795667733234456,1795667733891598,1795667733026058,1795667733234456,1);
CREATE TABLE progress (webhook TEXT PRIMARY KEY, change INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX alerts_change ON alerts (change);
CREATE INDEX alerts_open ON alerts (id) WHERE state < 2;
CREATE INDEX alerts_resolved ON alerts (resolved_at) WHERE state = 2;
CREATE INDEX outbox_webhook ON outbox (webhook);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('dead_letters',0);
INSERT INTO "sqlite_sequence" VALUES('outbox',4);
COMMIT;
