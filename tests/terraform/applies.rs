//! The program itself: what people see when they apply at once, when an answer is lost, when a lock is broken under them, when
//! a runner dies. In each of them nothing is written but under the lock.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::Value;

use crate::{
    http::{Backend, info},
    program::{self, Folder, Methods},
    relay::Relay,
};

/// Two tests at a time: each starts several processes.
fn in_turn() -> MutexGuard<'static, ()> {
    static TURNS: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    TURNS[NEXT.fetch_add(1, Ordering::Relaxed) % 2].lock().unwrap_or_else(PoisonError::into_inner)
}

/// A backend, the relay to it, and the program.
struct Scene {
    _turn: MutexGuard<'static, ()>,
    backend: Backend,
    relay: Relay,
    program: std::path::PathBuf,
}

impl Scene {
    /// Nothing, where the program is not on this machine.
    fn set() -> Option<Self> {
        let program = program::found()?;
        let turn = in_turn();
        let backend = Backend::over("memory:");
        let relay = Relay::to(backend.address());
        Some(Self { _turn: turn, backend, relay, program })
    }

    fn folder(&self, user: &str) -> Folder {
        self.folder_by(user, Methods::Default)
    }

    fn folder_by(&self, user: &str, methods: Methods) -> Folder {
        Folder::of(user, &self.program, &self.relay.address(), methods)
    }

    /// Who wrote the state that is saved.
    fn written_by(&self) -> String {
        let state: Value = serde_json::from_str(&self.backend.saved("demo").expect("a state")).expect("JSON");
        state["outputs"]["by"]["value"].as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn terraform_plans_applies_reads_and_destroys_by_whichever_methods() {
    let Some(scene) = Scene::set() else { return };
    for methods in [Methods::Default, Methods::Rest, Methods::OneAddress] {
        let ann = scene.folder_by("ann", methods);
        ann.run(&["plan", "-input=false"]).succeeds();
        assert_eq!(scene.backend.saved("demo"), None, "a plan writes nothing");
        ann.apply("ann").succeeds();
        assert_eq!(scene.written_by(), "ann");
        assert!(ann.run(&["state list"]).succeeds().contains("terraform_data.work"));
        assert!(ann.run(&["output", "-raw", "by"]).succeeds().ends_with("ann"));
        ann.run(&["refresh", "-input=false"]).succeeds();
        ann.run(&["taint", "terraform_data.work"]).succeeds();
        ann.run(&["destroy", "-input=false", "-auto-approve"]).succeeds();
        assert_eq!(scene.backend.holder("demo"), None, "each has unlocked");
        let deleted = scene.backend.lock("ann", "demo", &format!("end-{}", methods as u8));
        assert_eq!(deleted.status, 200);
        let target = format!("/state/demo?ID=end-{}", methods as u8);
        assert_eq!(scene.backend.ask("ann", "DELETE", &target, "").status, 200);
    }
    assert!(scene.relay.all_wrote_under_the_lock() >= 6);
}

#[test]
fn who_applies_at_the_same_time_is_refused_and_told_the_holders_id_and_reads_go_on() {
    let Some(scene) = Scene::set() else { return };
    let (ann, ben) = (scene.folder("ann"), scene.folder("ben"));
    ann.apply("before").succeeds();
    let apply = ann.apply_and_stay("ann");
    let id = scene.backend.holder("demo").expect("she has it");
    for command in
        [&["apply", "-input=false", "-auto-approve"][..], &["plan", "-input=false"], &["destroy", "-auto-approve"]]
    {
        ben.run(command).fails(&["Error acquiring the state lock", &id]);
    }
    assert!(ben.run(&["state list"]).succeeds().contains("terraform_data.work"));
    assert!(ben.run(&["output", "-raw", "by"]).succeeds().ends_with("before"));
    assert!(ben.run(&["state pull"]).succeeds().contains("\"before\""));
    ben.run(&["show"]).succeeds();
    assert_eq!(scene.written_by(), "before", "nobody has changed anything");

    ann.goes_on();
    apply.end().succeeds();
    assert_eq!(scene.written_by(), "ann");
    ben.apply("ben").succeeds();
    assert_eq!(scene.written_by(), "ben");
    assert!(scene.relay.all_wrote_under_the_lock() >= 3);
}

#[test]
fn who_has_time_waits_and_gets_the_lock() {
    let Some(scene) = Scene::set() else { return };
    let (ann, ben, cleo) = (scene.folder("ann"), scene.folder("ben"), scene.folder("cleo"));
    let apply = ann.apply_and_stay("ann");
    let patient = ["apply", "-input=false", "-auto-approve", "-lock-timeout=80s"];
    let waiting = [(&ben, "ben"), (&cleo, "cleo")].map(|(folder, user)| folder.start(&patient, &[("TF_VAR_by", user)]));
    for user in ["ben", "cleo"] {
        scene.relay.sees("a refusal", |one| one.user == user && one.status == 423);
    }
    assert!(scene.backend.saved("demo").is_none_or(|state| !state.contains("ben") && !state.contains("cleo")));
    ann.goes_on();
    apply.end().succeeds();
    for each in waiting {
        each.end().succeeds();
    }
    assert!(["ben", "cleo"].contains(&&*scene.written_by()));
    let state: Value = serde_json::from_str(&scene.backend.saved("demo").unwrap()).unwrap();
    assert!(
        state["serial"].as_u64().is_some_and(|serial| serial >= 3),
        "each went on from what the one before left: {state}"
    );
    scene.relay.all_wrote_under_the_lock();
}

#[test]
fn an_answer_that_is_lost_costs_nothing() {
    let Some(scene) = Scene::set() else { return };
    let ann = scene.folder("ann");
    for (number, method) in ["LOCK", "POST", "UNLOCK", "GET"].into_iter().enumerate() {
        scene.relay.lose_the_next_answer_to(method);
        ann.apply(&format!("ann {number}")).succeeds();
        let exchanges = scene.relay.exchanges();
        let lost = exchanges.iter().find(|one| one.lost && one.method == method).expect("one was lost");
        let again = exchanges.iter().filter(|one| one.method == method && one.id == lost.id && one.status == lost.status);
        assert!(again.count() >= 2, "{method} was sent again, and answered as before: {exchanges:#?}");
        assert_eq!((scene.backend.holder("demo"), scene.written_by()), (None, format!("ann {number}")));
    }
    assert!(scene.relay.all_wrote_under_the_lock() >= 5);
}

#[test]
fn an_unlock_whose_answer_is_lost_is_no_failure_though_the_next_one_has_the_lock() {
    let Some(scene) = Scene::set() else { return };
    let ann = scene.folder("ann");
    let apply = ann.apply_and_stay("ann");
    scene.relay.lose_the_next_answer_to("UNLOCK");
    ann.goes_on();
    // Terraform waits for a second before it asks again.
    let unlock = scene.relay.sees("the lost answer", |one| one.lost);
    assert_eq!((scene.backend.lock("ben", "demo", "next").status, unlock.status), (200, 200));
    apply.end().succeeds();
    assert_eq!(scene.backend.holder("demo").as_deref(), Some("next"), "it has ended its own alone");
}

#[test]
fn a_lock_is_broken_by_who_may_and_its_holder_writes_nothing_more_but_loses_nothing() {
    let Some(scene) = Scene::set() else { return };
    let (ann, ben, admin) = (scene.folder("ann"), scene.folder("ben"), scene.folder("admin"));
    ann.apply("before").succeeds();
    let apply = ann.apply_and_stay("ann");
    let id = scene.backend.holder("demo").expect("she has it");

    ben.run(&["force-unlock", "-force", &id]).fails(&["403"]);
    assert_eq!(scene.backend.holder("demo").as_ref(), Some(&id));
    admin.run(&["force-unlock", "-force", &id]).succeeds();
    assert_eq!(scene.backend.holder("demo"), None);
    ben.apply("ben").succeeds();
    let saved = scene.backend.saved("demo");

    ann.goes_on();
    apply.end().fails(&["Error saving state", "412", "errored.tfstate"]);
    assert_eq!(scene.backend.saved("demo"), saved, "what was written since stands");
    let refused = scene.relay.sees("the refusal", |one| one.user == "ann" && one.method == "POST" && one.status == 412);
    let told: Value = serde_json::from_str(&refused.answer).expect("a problem");
    assert_eq!((&told["lost"][0]["cause"], &told["lost"][0]["by"]), (&"broken".into(), &"admin".into()), "{told}");
    assert_eq!(scene.backend.holder("demo"), None, "her unlock at the end is no trouble");

    // She decides: her work is in a file.
    let errored = ann.file("errored.tfstate");
    ann.run(&["state push", "-force", errored.to_str().expect("a readable path")]).succeeds();
    assert_eq!(scene.written_by(), "ann");
    assert!(scene.relay.all_wrote_under_the_lock() >= 3);
}

#[test]
fn a_runner_that_dies_leaves_its_lock_and_nobody_writes_until_it_is_broken() {
    let Some(scene) = Scene::set() else { return };
    let (ann, ben, admin) = (scene.folder("ann"), scene.folder("ben"), scene.folder("admin"));
    ann.apply("before").succeeds();
    let mut apply = ann.apply_and_stay("ann");
    let id = scene.backend.holder("demo").expect("she has it");
    apply.kill();

    let saved = scene.backend.saved("demo");
    ben.apply("ben").fails(&["Error acquiring the state lock", &id]);
    ben.run(&["force-unlock", "-force", &id]).fails(&["403"]);
    for target in ["/state/demo", "/state/demo?ID=other"] {
        let status = scene.backend.ask("ben", "POST", target, "{}").status;
        assert!([412, 428].contains(&status), "{target}: {status}");
    }
    assert_eq!(scene.backend.ask("ben", "UNLOCK", "/state/demo/lock", info("other")).holder(), id);
    assert_eq!(scene.backend.saved("demo"), saved);

    // Terraform does not send the ID that is typed.
    admin.run(&["force-unlock", "-force", "whatever"]).succeeds();
    ben.apply("ben").succeeds();
    assert_eq!(scene.written_by(), "ben");
    assert!(scene.relay.all_wrote_under_the_lock() >= 2);
}
