//! Damaged images of compiled MIBs: refused, or read without a panic and without end.
//!
//! The input is a list of changes to the image of the built-in names, four octets each: where (three) and what. The
//! checksum is made to fit, since else nothing behind it would ever be reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nereus::mib::Mib;

fuzz_target!(|data: &[u8]| {
    let mut octets = Mib::builtin().image().to_vec();
    for change in data.chunks_exact(4) {
        let at = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize % octets.len();
        octets[at] = change[3];
    }
    // What is left over says how much is cut off.
    if let [cut] = data.chunks_exact(4).remainder() {
        octets.truncate(octets.len().saturating_sub(usize::from(*cut)));
    }
    let _ = Mib::from_image(octets.clone(), &[]);
    Mib::sign_image(&mut octets);
    let Ok(mib) = Mib::from_image(octets, &["/mibs".into()]) else { return };
    let mut name = String::new();
    for node in mib.nodes() {
        let oid = node.oid();
        name.clear();
        mib.write_name(oid.arcs(), &mut name);
        let _ = (mib.lookup(oid.arcs()), mib.resolve(node.name()), mib.index_decoder(node.id()));
        let _ = (node.objects().count(), node.index().count(), node.file().len(), node.description());
        let _ = mib.children(node.id()).count() + mib.same_oid(node.id()).count();
        let _ = node.syntax().map(|syntax| (syntax.labels().count(), syntax.label(1), syntax.number("up")));
    }
    let _ = mib.resolve("ifAdminStaus");
    let _ = mib.modules().map(|module| module.nodes()).sum::<usize>();
});
