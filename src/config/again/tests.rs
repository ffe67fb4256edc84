use proptest::prelude::*;

use super::*;

fn remember(text: &str) -> Result<Memory, Problems> {
    let mut layout = None;
    let loaded = file::load_octets(Path::new("a.yaml"), text.as_bytes(), &[], &mut layout)?;
    Ok(Memory::new(loaded, text.to_owned(), layout))
}

fn again(before: &Memory, text: &str) -> Option<Memory> {
    edited(Path::new("a.yaml"), before, text)
}

/// What a short way says of `text` is what the whole one says. Gives whether one was taken.
fn compare(before: &Memory, text: &str) -> bool {
    let Some(short) = again(before, text) else { return false };
    let whole = remember(text).unwrap_or_else(|problems| panic!("{problems}\nof\n{text}"));
    assert!(whole.loaded.diagnostics.is_empty(), "{:?}\nof\n{text}", whole.loaded.diagnostics);
    assert_eq!(short.loaded.settings, whole.loaded.settings, "{text}");
    assert_eq!(short.loaded.inputs, whole.loaded.inputs, "{text}");
    assert_eq!(short.layout, whole.layout, "{text}");
    true
}

const BEFORE: &str = "# Nereus\naccess:\n  communities: [public, {name: core, community: secret}]\n\n";
const RULES: [&str; 5] = [
    "  - name: link\n    match:\n      trap: IF-MIB::linkDown\n      when: {ifIndex: {above: 3}}\n    alert: InterfaceDown\n    \
     key: [source, ifIndex]\n    cleared_by: IF-MIB::linkUp\n",
    "  # What nobody reads.\n\n  - {name: chatter, match: {trap: 1.3.6.1.4.1.9.9.43.*}, drop: true}\n",
    "  -   name: long # a comment\n      match: {trap: 1.3.6.1.4.1.9.1, community: core}\n      alert: Long\n      annotations:\n        \
     summary: |\n          first\n\n          second: \"{{ source }}\"\n        other: >-\n          a\n          b\n",
    "  - name: \"quo\n      ted\"\n    match: {trap: [1.3.6.1.4.1.9.2,\n      1.3.6.1.4.1.9.3]}\n    alert: Quoted\n    notify: [w]\n",
    "  - name: last\n    alert: Everything\n",
];
const AFTER: &str = "\n# Where alerts go.\nwebhooks:\n  - {name: w, format: json, url: 'http://127.0.0.1:9/', timeout: 3s}\nunmatched: store\n";

fn sample() -> String {
    format!("{BEFORE}rules:\n{}{AFTER}", RULES.concat())
}

#[test]
fn what_operators_edit_takes_a_short_way() {
    let text = sample();
    let before = remember(&text).unwrap();
    assert_eq!(before.layout.as_ref().map(|layout| layout.items.len()), Some(5));
    let edits = [
        // One rule, in each place, by a value, a key, a comment, more or fewer lines.
        text.replace("above: 3", "above: 4"),
        text.replace("    alert: InterfaceDown\n", "    alert: InterfaceDown\n    severity: major\n"),
        text.replace("name: chatter", "name: talk"),
        text.replace("second", "third"),
        text.replace("    notify: [w]\n", ""),
        text.replace("alert: Everything\n", "alert: Everything\n    expire: never\n"),
        text.replace("# a comment", "# another"),
        // Rules that come and go, also at both ends.
        text.replace(
            "  - name: last",
            "  - name: new\n    match: {trap: 1.3.6.1.4.1.9.7}\n    alert: New\n  - name: last",
        ),
        text.replace(RULES[1], ""),
        text.replace(RULES[2], &format!("{}{}", RULES[2], RULES[2].replace("name: long", "name: longer"))),
        text.replace(RULES[4], ""),
        text.replace(&RULES[1..4].concat(), RULES[3]),
        // Another section.
        text.replace("timeout: 3s", "timeout: 4s"),
        text.replace("unmatched: store", "unmatched: drop"),
        text.replace("community: secret", "community: other"),
        text.replace("# Nereus", "# Nereus\nlogging: {level: debug}"),
        format!("{text}storage: {{retention: 3d}}\n"),
        text.replace("\n# Where", "logging: {level: debug}\n\n# Where"),
    ];
    for (number, edit) in edits.iter().enumerate() {
        assert!(*edit != text && compare(&before, edit), "edit {number} went the whole way:\n{edit}");
        // And back.
        let after = remember(edit).unwrap();
        assert!(compare(&after, &text), "back from edit {number} went the whole way");
    }
    // A line that looks like a comment belongs to the text above it.
    let scalar = text.replace(RULES[3], "").replace(RULES[4], "");
    let edit = scalar.replace("\n# Where", "          # c\n\n# Where");
    assert!(remember(&edit).unwrap().loaded.settings != remember(&scalar).unwrap().loaded.settings);
    assert!(compare(&remember(&scalar).unwrap(), &edit));
    let appended = text.replace("\n# Where", "  - name: more\n    alert: More\n\n# Where");
    let before = remember(&text.replace(RULES[4], "")).unwrap();
    assert!(compare(&before, &appended.replace(RULES[4], "")));
    // Dashes at the margin are as good.
    let margin = "rules:\n- name: a\n  alert: A\n  match: {trap: 1.3.6.1.4.1.1}\n- name: b\n  alert: B\nunmatched: store\n";
    let before = remember(margin).unwrap();
    assert!(compare(&before, &margin.replace("alert: A", "alert: C")));
    assert!(compare(&before, &margin.replace("store", "drop")));
}

#[test]
fn what_reaches_further_goes_the_whole_way() {
    let text = sample();
    let before = remember(&text).unwrap();
    for edit in [
        text.replace("name: chatter", "name: link"),
        text.replace("community: core", "community: cor"),
        text.replace("{name: w,", "{name: v,"),
        text.replace("{name: core,", "{name: cora,"),
        text.replace("unmatched: store", "unmatched: store\nrules: []"),
        text.replace("unmatched: store", "include: b.yaml"),
        text.replace("unmatched: store", "  - name: more"),
        text.replace("  - name: link", "  - name: first\n    alert: All\n  - name: link"),
        text.replace("key: [source, ifIndex]", "key: [ifIndex]"),
        text.replace("key: [source, ifIndex]", "key: &k [source, ifIndex]"),
        text.replace("above: 3", "above: [3"),
        text.replace("alert: InterfaceDown", "alert: \"InterfaceDown"),
        text.replace("    alert: InterfaceDown", "   alert: InterfaceDown"),
        text.replace("    alert: InterfaceDown", "  alert: InterfaceDown"),
        text.replace("rules:\n", "rule:\n"),
        text.replace("rules:\n", "x: 1\nrules: # mine\n"),
        text.replace("level", "level\0"),
        format!("---\n{text}---\n{text}"),
    ] {
        if edit != text {
            assert!(again(&before, &edit).is_none(), "{edit}");
        }
    }
    for odd in [
        "rules: [{name: a, alert: A}]\n",
        "rules:\n  - &a {name: a, alert: A}\n",
        "rules:\n  - name: a\n    alert: A\ninclude: conf.d/*.yaml\n",
        "{rules: [{name: a, alert: A}]}\n",
        "'rules':\n  - name: a\n    alert: A\n",
        "rules:\n  -\n    name: a\n    alert: A\n",
        "unmatched: store\n",
    ] {
        let tree = tree::read(Language::Yaml, odd).unwrap();
        assert_eq!(Layout::of(odd, &tree), None, "{odd}");
    }
}

#[test]
fn files_that_did_not_change_are_not_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, token) = (folder.path().join("a.yaml"), folder.path().join("token"));
    let private = |path: &Path, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o640)).unwrap();
    };
    let write = |text: &str| private(&path, text);
    private(&token, "one");
    let text = format!("{}admin: {{token: {{file: {}}}}}\n", sample(), token.display());
    write(&text);
    let first = load_again(&path, None, &[]).unwrap();
    assert!(Arc::ptr_eq(&first, &load_again(&path, Some(&first), &[]).unwrap()));
    // Of one that is edited, the rules that are not are the same `Arc`.
    write(&text.replace("above: 3", "above: 4"));
    let second = load_again(&path, Some(&first), &[]).unwrap();
    let (old, new) = (&first.loaded.settings.rules, &second.loaded.settings.rules);
    assert!(!Arc::ptr_eq(&old[0], &new[0]) && old[1..].iter().zip(&new[1..]).all(|(a, b)| Arc::ptr_eq(a, b)));
    // A secret's file counts, and so do permissions.
    private(&token, "two");
    let third = load_again(&path, Some(&second), &[]).unwrap();
    assert_eq!(third.loaded.settings.admin.token.as_ref().unwrap().expose(), b"two");
    let wide = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&path, wide).unwrap();
    let codes =
        |memory: &Memory| memory.loaded.diagnostics.iter().map(|problem| problem.code).collect::<Vec<_>>();
    let fourth = load_again(&path, Some(&third), &[]).unwrap();
    assert!(codes(&fourth).contains(&"config-permissions"));
}

/// Pieces that edits put anywhere: what YAML gives a meaning to.
const PIECES: [&str; 26] = [
    "\n",
    " ",
    "  ",
    "    ",
    "-",
    "- ",
    ":",
    ": ",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    "#",
    " # ",
    "|",
    ">",
    "&a ",
    "*a",
    "? ",
    "!t ",
    "\t",
    "---\n",
    "  - name: x\n",
    "name: y\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn both_ways_say_the_same(
        picks in proptest::collection::vec(0..RULES.len(), 1..4),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..12, 0..PIECES.len()), 1..3),
        quote in any::<bool>(),
    ) {
        let mut rules = String::new();
        for (number, pick) in picks.iter().enumerate() {
            rules += &RULES[*pick].replacen("name: ", &format!("name: r{number}"), 1).replace("r0\"", "\"r0");
        }
        // A quote further below closes one that an edit opens.
        let after = if quote { AFTER.replace("# Where", "# \"Where' it") } else { AFTER.to_owned() };
        let text = format!("{BEFORE}rules:\n{rules}{after}");
        let Ok(before) = remember(&text) else { return Ok(()) };
        let mut edited = text;
        for (at, removed, piece) in edits {
            let at = at.index(edited.len());
            let to = (at + removed).min(edited.len());
            if edited.is_char_boundary(at) && edited.is_char_boundary(to) {
                edited.replace_range(at..to, PIECES[piece]);
            }
        }
        compare(&before, &edited);
    }
}
