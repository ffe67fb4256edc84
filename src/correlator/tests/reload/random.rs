//! Random edits of rules while events come in late.

use proptest::prelude::*;

use super::*;

const SLOTS: usize = 3;
const PROBLEMS: u32 = 4;

/// One change of the rules.
#[derive(Debug, Clone)]
enum Edit {
    Remove(usize),
    Restore(usize),
    Rename(usize),
    /// Two rules exchange their names, or their alerts.
    ExchangeNames(usize, usize),
    ExchangeAlerts(usize, usize),
    Alert(usize, &'static str),
    Key(usize, Vec<&'static str>),
    Team(usize, Option<&'static str>),
}

#[derive(Debug, Clone)]
enum Step {
    /// Through a receiver: which rule, which problem, raise or clear.
    Event(usize, usize, u32, bool),
    Reload(Vec<Edit>),
    /// A receiver reads the newest generation.
    Read(usize),
    Tick,
    Wait(i64),
    Restart,
}

fn steps(edits: impl Strategy<Value = Edit> + 'static) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..2_usize, 0..SLOTS, 0..PROBLEMS, prop::bool::weighted(0.7))
            .prop_map(|(receiver, rule, problem, raise)| Step::Event(receiver, rule, problem, raise)),
        2 => prop::collection::vec(edits, 0..3).prop_map(Step::Reload),
        2 => (0..2_usize).prop_map(Step::Read),
        2 => Just(Step::Tick),
        1 => (1..25_i64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..120)
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let key = prop::sample::select(vec![
        vec!["source", "ifIndex"],
        vec!["ifIndex", "source"],
        vec!["ifIndex"],
        vec!["source"],
        vec!["source", "ifDescr"],
        vec!["ifDescr", "ifIndex", "source"],
    ]);
    let team = prop::sample::select(vec![Some("noc"), Some("ops"), None]);
    prop_oneof![
        (0..SLOTS).prop_map(Edit::Remove),
        (0..SLOTS).prop_map(Edit::Restore),
        (0..SLOTS).prop_map(Edit::Rename),
        (0..SLOTS, 0..SLOTS).prop_map(|(a, b)| Edit::ExchangeNames(a, b)),
        (0..SLOTS, 0..SLOTS).prop_map(|(a, b)| Edit::ExchangeAlerts(a, b)),
        (0..SLOTS, prop::sample::select(vec!["Down", "Fault"]))
            .prop_map(|(rule, alert)| Edit::Alert(rule, alert)),
        (0..SLOTS, key).prop_map(|(rule, key)| Edit::Key(rule, key)),
        (0..SLOTS, team).prop_map(|(rule, team)| Edit::Team(rule, team)),
    ]
}

/// Edits that leave no doubt about any alert.
fn sure_edit() -> impl Strategy<Value = Edit> {
    let key =
        prop::sample::select(vec![vec!["source", "ifIndex"], vec!["ifIndex", "source"], vec!["ifIndex"]]);
    let team = prop::sample::select(vec![Some("noc"), Some("ops")]);
    prop_oneof![
        (0..SLOTS).prop_map(Edit::Rename),
        (0..SLOTS, 0..SLOTS).prop_map(|(a, b)| Edit::ExchangeNames(a, b)),
        (0..SLOTS, 0..SLOTS).prop_map(|(a, b)| Edit::ExchangeAlerts(a, b)),
        (0..SLOTS, key).prop_map(|(rule, key)| Edit::Key(rule, key)),
        (0..SLOTS, team).prop_map(|(rule, team)| Edit::Team(rule, team)),
    ]
}

/// A world with rules in generations and two receivers that read them when they come to it.
struct Sim {
    world: World,
    /// Of each generation, from 1.
    rules: Vec<Rules>,
    read: [usize; 2],
    names: usize,
}

impl Sim {
    fn new() -> Self {
        let alerts = ["Down", "Fault", "Lost"];
        let spec = |slot: usize| {
            Spec::new(&format!("rule {slot}"), alerts[slot], &["source", "ifIndex"], Some("noc"))
        };
        let rules = (0..SLOTS).map(|slot| Some(spec(slot))).collect();
        Self { world: World::new(&[0, 1]), rules: vec![rules], read: [1; 2], names: SLOTS }
    }

    fn newest(&self) -> &Rules {
        self.rules.last().unwrap()
    }

    fn reload(&mut self, edits: &[Edit]) {
        let mut rules = self.newest().clone();
        for edit in edits {
            self.names += 1;
            match edit {
                Edit::Remove(slot) => rules[*slot] = None,
                Edit::Restore(slot) => {
                    let name = format!("rule {}", self.names);
                    rules[*slot].get_or_insert_with(|| Spec::new(&name, "Down", &["ifIndex"], None));
                }
                Edit::Rename(slot) => {
                    if let Some(spec) = &mut rules[*slot] {
                        spec.name = format!("rule {}", self.names);
                    }
                }
                Edit::ExchangeNames(a, b) | Edit::ExchangeAlerts(a, b) => {
                    let (Some(one), Some(other)) = (rules[*a].clone(), rules[*b].clone()) else { continue };
                    let (one, other) = match edit {
                        Edit::ExchangeNames(..) => (
                            Spec { name: other.name.clone(), ..one.clone() },
                            Spec { name: one.name, ..other },
                        ),
                        _ => (Spec { alert: other.alert, ..one.clone() }, Spec { alert: one.alert, ..other }),
                    };
                    if a != b {
                        (rules[*a], rules[*b]) = (Some(one), Some(other));
                    }
                }
                Edit::Alert(slot, alert) => rules[*slot].iter_mut().for_each(|spec| spec.alert = alert),
                Edit::Key(slot, key) => rules[*slot].iter_mut().for_each(|spec| spec.key.clone_from(key)),
                Edit::Team(slot, team) => rules[*slot].iter_mut().for_each(|spec| spec.team = *team),
            }
        }
        let generation = self.rules.len() as u64 + 1;
        self.world.correlator.reloaded(changes(generation, self.newest(), &rules));
        self.rules.push(rules);
    }

    fn read(&mut self, receiver: usize) {
        self.read[receiver] = self.rules.len();
        self.world.correlator.mark(receiver as u32, Generation(self.rules.len() as u64));
    }

    /// Returns whether the receiver's generation had the rule.
    fn event(&mut self, receiver: usize, slot: usize, problem: u32, raise: bool) -> bool {
        let generation = self.read[receiver];
        let Some(spec) = self.rules[generation - 1][slot].clone() else { return false };
        let effect = spec.effect(problem, if raise { RAISE } else { CLEAR });
        self.world.event_of(generation as u64, receiver as u16, effect);
        true
    }

    fn restart(&mut self) {
        let rules = self.newest().clone();
        self.world.restart(&rules);
        self.rules = vec![rules];
        (0..2).for_each(|receiver| self.read(receiver));
    }

    fn settle(&mut self) {
        (0..2).for_each(|receiver| self.read(receiver));
        self.world.tick();
    }

    /// Every open alert is one that a rule of the newest generation would raise, by that rule's name.
    fn orphans(&self) -> Vec<AlertRecord> {
        let fits = |record: &AlertRecord, spec: &Spec, problem: u32| {
            let label = |name: &str, value: &str| {
                record.labels.iter().any(|(own, found)| **own == *name && found == value)
            };
            let team = match spec.team {
                Some(team) => label("team", team),
                // One that a restart has kept shows what it had until the next event outside its window.
                None => true,
            };
            let names = ["alertname", "severity", "source", "team"].iter().chain(&spec.key);
            let names: BTreeSet<&str> = names.copied().collect();
            *record.key == *spec.key(problem)
                && names.len() == record.labels.len()
                && team
                && label("alertname", spec.alert)
                && label("source", "10.0.0.1")
        };
        let belongs = |record: &AlertRecord| {
            let spec = self.newest().iter().flatten().find(|spec| *spec.name == *record.rule);
            spec.is_some_and(|spec| (0..PROBLEMS).any(|problem| fits(record, spec, problem)))
        };
        self.world.correlator.records().into_iter().filter(|record| !belongs(record)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever changes: once all receivers have read the newest rules no open alert is an orphan, and the changes
    /// alone give the open set.
    #[test]
    fn no_reload_leaves_an_orphan(steps in steps(any_edit())) {
        let mut sim = Sim::new();
        for step in &steps {
            match step {
                Step::Event(receiver, slot, problem, raise) => drop(sim.event(*receiver, *slot, *problem, *raise)),
                Step::Reload(edits) => sim.reload(edits),
                Step::Read(receiver) => sim.read(*receiver),
                Step::Tick => drop(sim.world.tick()),
                Step::Wait(seconds) => sim.world.now += seconds,
                Step::Restart => sim.restart(),
            }
        }
        sim.settle();
        prop_assert_eq!(sim.orphans(), vec![], "under {:?}", sim.newest());
        let mut out = Vec::new();
        sim.world.correlator.finish(&mut out);
        sim.world.store(&out);
        prop_assert_eq!(sim.world.disk.open(), sim.world.correlator.records());
    }

    /// Where every alert tells what it is under the new rules, no problem gets lost and none is kept: what
    /// is open is what was raised last, whenever the receivers read the rules. Each problem comes through one
    /// receiver, as devices do.
    #[test]
    fn what_is_open_is_what_was_raised_last(steps in steps(sure_edit())) {
        let mut sim = Sim::new();
        let mut raised = BTreeSet::new();
        for step in &steps {
            match step {
                Step::Event(_, slot, problem, raise) => {
                    sim.event(*problem as usize % 2, *slot, *problem, *raise);
                    if *raise {
                        raised.insert((*slot, *problem));
                    } else {
                        raised.remove(&(*slot, *problem));
                    }
                }
                Step::Reload(edits) => sim.reload(edits),
                Step::Read(receiver) => sim.read(*receiver),
                Step::Tick => drop(sim.world.tick()),
                Step::Wait(seconds) => sim.world.now += seconds,
                Step::Restart => {
                    sim.settle();
                    sim.restart();
                }
            }
        }
        sim.settle();
        let expected = raised.iter().map(|&(slot, problem)| sim.newest()[slot].as_ref().unwrap().key(problem));
        let expected: BTreeSet<_> = expected.map(|key| key.replace(KEY_SEPARATOR, "|")).collect();
        let open: BTreeSet<_> = sim.world.open().into_iter().collect();
        prop_assert_eq!(open, expected);
        prop_assert_eq!(sim.orphans(), vec![]);
    }

    /// A restart between reloads changes nothing but numbers of generations: every later decision is the same.
    #[test]
    fn a_restart_between_reloads_changes_nothing(steps in steps(sure_edit())) {
        let (mut sim, mut twin) = (Sim::new(), Sim::new());
        for step in &steps {
            for (sim, restarts) in [(&mut sim, true), (&mut twin, false)] {
                match step {
                    Step::Event(receiver, slot, problem, raise) => {
                        sim.event(*receiver, *slot, *problem, *raise);
                    }
                    Step::Reload(edits) => {
                        sim.reload(edits);
                        sim.settle();
                    }
                    Step::Read(_) | Step::Tick => {}
                    Step::Wait(seconds) => sim.world.now += seconds,
                    Step::Restart if restarts => {
                        sim.restart();
                        prop_assert_eq!(sim.world.tick(), "", "the rules are the same");
                    }
                    Step::Restart => {}
                }
            }
            // In which order alerts are moved, and so their numbers, is no one's business.
            let unnumbered = |sim: &Sim| {
                let records = sim.world.correlator.records().into_iter();
                records
                    .map(|record| (record.key.clone(), AlertRecord { id: AlertId(0), change: 0, ..record }))
                    .collect::<BTreeMap<_, _>>()
            };
            prop_assert_eq!(unnumbered(&sim), unnumbered(&twin), "{:?}", step);
            prop_assert_eq!(&sim.world.disk.alerts.len(), &twin.world.disk.alerts.len());
        }
    }
}
