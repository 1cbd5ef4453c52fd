//! What is done wrongly is noticed; that is how one knows that the searches look.

use crate::{
    config::{
        Config,
        Mutation::{
            AdopterDeletesNotesOfBackups, AdopterPutsNoNotes, EditorChecksNothing, ExpirerDeletesNotesFirst,
            ExpirerListsNoSeals, ForgetterLooksForNoNotes, ForgetterSealsNothingAgain, Impatience,
            LeanerLooksForNoBasis, LeanerLooksForNoMarks, NoWait, PrunerChecksByTheOldListing, PrunerCountsItsVictims,
            PrunerDeletesMarksBeforePacks, PrunerDeletesPacksBeforeTheIndex, PrunerDeletesRunsBeforePuttingNewOnes,
            PrunerDropsEntriesOfPacksItMissed, PrunerIgnoresMarks, PrunerListsRootsOnce,
            PrunerPassesOverWhatIsUnindexed, WriterBelievesAFreshIndex, WriterChecksNothing, WriterListsNoMarks,
            WriterListsNoPacks, WriterListsPacksBeforeMarks, WriterLooksForNoBody, WriterLooksForNoNotes,
        },
        Task::{AdoptNotes, Backup, Edit, Expire, Forget, ForgetOld, Lean, Prune, Store},
        Wait,
    },
    process::event::PRUNER_GAVE_UP,
    search::{caught, safe},
    small::{NEW, OLD, SAME},
    world::Kind,
};

fn writer_pruner() -> Config {
    Config::new("writer, pruner, forgetter", &[&[Backup(NEW)], &[Prune], &[Forget(1)]])
}

fn pruners() -> Config {
    Config { rescues: 2, ..Config::new("2 pruners", &[&[Prune], &[Prune]]) }
}

fn adopters() -> Config {
    Config { adopts: true, ..Config::new("writer, 2 pruners that adopt", &[&[Backup(NEW)], &[Prune], &[Prune]]) }
}

fn expirers() -> Config {
    Config::new("writer, 2 expirers", &[&[Backup(OLD)], &[Expire], &[AdoptNotes]])
}

fn forgetters() -> Config {
    let two: &[&[_]] = &[&[Forget(1)], &[Forget(2)], &[Expire]];
    let config = Config::new("2 forgetters of a seal for three, expirer", two);
    Config { one_seal: true, bodies: &[SAME, SAME, SAME], torn: &[Kind::Seals], ..config }
}

fn merger() -> Config {
    let config = Config::new("writer that merges, pruner", &[&[Backup(NEW)], &[Prune]]);
    Config { merges: true, packs: &[0b001, 0b010], runs: &[0b11], ..config }
}

/// Somebody stores and merges runs, but never claims: an index that is listed meanwhile can miss what is in both.
pub(crate) fn hiding() -> Config {
    let scripts: &[&[_]] = &[&[Backup(OLD)], &[Store(0b1000), Store(0b1_0000)], &[Prune]];
    let config = Config::new("writer, 2 merges, pruner; runs in pages", scripts);
    Config { bodies: &[], packs: &[OLD], merges: true, torn: &[Kind::Runs], ..config }
}

fn edits(times: usize) -> Config {
    let edits = [Edit, ForgetOld].repeat(times);
    let name = if times == 1 { "edit, pruner; bodies in pages" } else { "2 edits, pruner; bodies in pages" };
    Config { torn: &[Kind::Bodies], ..Config::new(name, &[&edits, &[Prune]]) }
}

fn late(config: Config) -> Config {
    Config { delayed: true, ..config }
}

#[test]
fn writers() {
    for mutation in [
        WriterChecksNothing,
        WriterListsNoMarks,
        WriterListsPacksBeforeMarks,
        WriterBelievesAFreshIndex,
        WriterListsNoPacks,
    ] {
        caught(writer_pruner(), mutation);
    }
    caught(edits(2), EditorChecksNothing);
    let leaning: &[_] = &[Lean, ForgetOld, Lean, ForgetOld];
    let config = Config::new("2 edits that lean, pruner; bodies in pages", &[leaning, &[Prune]]);
    caught(Config { torn: &[Kind::Bodies], ..config }, LeanerLooksForNoMarks);
    let config = Config::new("edit that leans, forgetter, pruner", &[&[Lean], &[Forget(1)], &[Prune]]);
    caught(config, LeanerLooksForNoBasis);
}

#[test]
fn pruners_alone_and_together() {
    for mutation in [PrunerListsRootsOnce, PrunerDeletesMarksBeforePacks, PrunerCountsItsVictims] {
        caught(writer_pruner(), mutation);
    }
    caught(pruners(), PrunerIgnoresMarks);
    let twice = Config { packs: &[SAME, SAME], runs: &[0b11], ..pruners() };
    caught(Config { name: "2 pruners, everything twice", ..twice }, PrunerChecksByTheOldListing);
    caught(hiding(), PrunerPassesOverWhatIsUnindexed);
    caught(merger(), PrunerDropsEntriesOfPacksItMissed);
    caught(merger(), PrunerDeletesRunsBeforePuttingNewOnes);
}

#[test]
fn expiring() {
    caught(expirers(), ExpirerListsNoSeals);
    caught(expirers(), ExpirerDeletesNotesFirst);
    caught(expirers(), AdopterPutsNoNotes);
    caught(expirers(), AdopterDeletesNotesOfBackups);
    caught(expirers(), WriterLooksForNoNotes);
    caught(expirers(), WriterLooksForNoBody);
}

#[test]
fn forgetting() {
    caught(forgetters(), ForgetterSealsNothingAgain);
    caught(forgetters(), ForgetterLooksForNoNotes);
}

#[test]
fn not_waiting() {
    for wait in [Wait::Claim, Wait::WriterRescue, Wait::Mark, Wait::PackDelete] {
        caught(late(writer_pruner()), NoWait(wait));
    }
    caught(late(adopters()), NoWait(Wait::AdoptedMark));
    // Nothing is lost, but what was just copied is taken for lost.
    let patient = Config::new("writer, pruner, forgetter", &[&[Backup(OLD)], &[Prune], &[Forget(1)]]);
    caught(Config { never: PRUNER_GAVE_UP, ..late(patient) }, NoWait(Wait::PrunerRescue));
    for wait in [Wait::Merge, Wait::Index] {
        caught(late(merger()), NoWait(wait));
    }
    for wait in [Wait::Seal, Wait::Note, Wait::BodyDelete] {
        caught(late(expirers()), NoWait(wait));
    }
    caught(late(forgetters()), NoWait(Wait::Reseal));
}

/// A name that comes again, because its first put was thought lost.
#[test]
fn deleting_what_is_put_again() {
    let scripts: &[&[_]] = &[&[Backup(0b100)], &[Prune], &[Prune]];
    let adopters = Config { adopts: true, ..Config::new("writer, 2 pruners that adopt", scripts) };
    caught(Config { lost: &[Kind::Packs], ..adopters }, Impatience);
    caught(Config { lost: &[Kind::Bodies], ..expirers() }, Impatience);
}

/// What a smaller model takes for safe, and what is merely unkind to readers. The first two say why two edits, and pages, are needed.
#[test]
fn not_noticed() {
    safe(edits(1).with(EditorChecksNothing));
    safe(Config { torn: &[], name: "2 edits, pruner", ..edits(2) }.with(EditorChecksNothing));
    safe(writer_pruner().with(PrunerDeletesPacksBeforeTheIndex));
}
