//! The same for a client: a life by commands, each a process of its own, of which one after the other dies or is refused by its
//! disk; the same command again has to do what it is for.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use greffe_testkit::faults::{DIED, Disk, Fault, Mode, Trace};
use serde_json::Value;

use super::machine::Machine;
use super::points::{Left, Outcome, Plan, has_to_end};
use crate::support::{Ran, greffe};

/// One life of two users who are met nowhere else, in a folder of their own.
struct Life<'a> {
    machine: &'a Machine,
    identity: PathBuf,
    number: u32,
    disk: Disk,
    mode: Option<Mode>,
    /// What came of each fault so far.
    outcomes: Vec<Outcome>,
}

impl Life<'_> {
    /// Runs a command, again when its fault stopped it; gives its JSON object. Then another may fail.
    fn json(&mut self, arguments: &[&str]) -> Value {
        let made = self.done(arguments);
        self.disk.release();
        made
    }

    /// As [`Life::json`], where what is under way is not done yet.
    fn done(&mut self, arguments: &[&str]) -> Value {
        let ran = self.run(arguments);
        if ran.code == 0 {
            return ran.json();
        }
        // What was done before it died is not to be done twice: the same command then says how things stand.
        let again = self.run(arguments);
        assert_eq!(again.code, 0, "{arguments:?}: {ran:?}, and then {again:?}");
        again.json()
    }

    fn run(&mut self, arguments: &[&str]) -> Ran {
        let people = self.machine.data().join("people");
        let mut command = greffe();
        command
            .args(arguments)
            .args(["--output", "json", "--identity"])
            .arg(&self.identity)
            .env("GREFFE_DATA", self.machine.data());
        self.disk.inject(&mut command, &people);
        let ran = Ran::of(command.output().unwrap());
        assert!(!ran.stderr.contains("panicked"), "{arguments:?}: {ran:?}");
        let trace = self.disk.trace();
        match (&trace.faults[self.outcomes.len()..], self.mode) {
            ([fault], Some(mode)) => self.outcomes.push(outcome(mode, &trace, fault, &ran)),
            (faults, _) => assert_eq!(faults, [], "{arguments:?}"),
        }
        ran
    }

    /// As who: the device that its enrolment has named, since one that was cut off may have left another.
    fn enrol(&mut self, user: &str) -> [String; 4] {
        let made = self.json(&["device", "enrol", "--user", user]);
        let device = made["device"].as_str().unwrap();
        ["--as", user, "--device", device].map(str::to_owned)
    }

    fn live(&mut self) {
        let names = ["alice", "bob"].map(|name| format!("{name}-{}", self.number));
        let [alice, bob] = [0, 1].map(|at| self.enrol(&names[at]));
        let [alice, bob] = [&alice, &bob].map(|who| who.each_ref().map(String::as_str));
        let made = self.json(&[&["conversation", "create"], &alice[..]].concat());
        let id = made["conversation"].as_str().unwrap().to_owned();
        let acknowledge = ["conversation", "acknowledge", &id];
        self.json(&[&acknowledge, &alice[..]].concat());
        self.invite(&id, alice, &names[1]);
        self.json(&[&["read"], &bob[..]].concat());
        self.json(&[&acknowledge, &bob[..]].concat());
        let file = self.identity.join("limits.csv");
        fs::write(&file, "desk,limit\nrates,5\n").unwrap();
        let attached = ["--attach", file.to_str().unwrap()];
        let mut said = BTreeMap::new();
        self.say(&mut said, &id, alice, &attached);
        self.json(&[&["read"], &bob[..]].concat());
        self.say(&mut said, &id, bob, &[]);
        for who in [alice, bob] {
            self.json(&[&["read"], &who[..]].concat());
            let from_the_first = ["read", "--conversation", &id, "--after", "0"];
            let history = self.json(&[&from_the_first, &who[..]].concat());
            self.is_whole(&history, &said);
        }
    }

    /// Invites, unless a try before was done and not heard of.
    fn invite(&mut self, id: &str, alice: [&str; 4], bob: &str) {
        let invite = [&["conversation", "invite", id, bob], &alice[..]].concat();
        let show = [&["conversation", "show", id], &alice[..]].concat();
        let mut last = None;
        for _ in 0..3 {
            let ran = self.run(&invite);
            let shown = self.done(&show);
            let mut members = shown["members"].as_array().unwrap().iter();
            if members.any(|member| member["user"] == bob) {
                self.disk.release();
                return;
            }
            last = Some(ran);
        }
        panic!("bob is not in: {last:?}");
    }

    /// Says something, each try something else: what a command that died had stored still goes out.
    fn say(
        &mut self,
        said: &mut BTreeMap<String, String>,
        id: &str,
        who: [&str; 4],
        more: &[&str],
    ) {
        let mut last = None;
        for attempt in 0..3 {
            let text = format!("{} says, try {attempt}", who[1]);
            let send = ["send", "--conversation", id, "--text", &text];
            let ran = self.run(&[&send, &who[..], more].concat());
            if ran.code == 0 {
                let envelope = ran.json()["envelope"].as_str().unwrap().to_owned();
                said.insert(text, envelope);
                self.disk.release();
                return;
            }
            last = Some(ran);
        }
        panic!("it was not sent: {last:?}");
    }

    /// What was acknowledged is there once, and nothing is there twice.
    fn is_whole(&self, history: &Value, said: &BTreeMap<String, String>) {
        let mut seen = BTreeMap::new();
        for item in history["items"].as_array().unwrap() {
            let Some(text) = item["content"]["text"].as_str() else {
                continue;
            };
            let digest = item["digest"].as_str().unwrap();
            let before = seen.insert(text, digest);
            assert!(before.is_none(), "twice: {text}: {history}");
        }
        for (text, envelope) in said {
            assert_eq!(
                seen.get(text.as_str()),
                Some(&envelope.as_str()),
                "{history}"
            );
        }
    }
}

fn outcome(mode: Mode, trace: &Trace, fault: &Fault, ran: &Ran) -> Outcome {
    if mode.is_death() {
        assert_eq!(ran.code, DIED, "{ran:?}");
        return Outcome::Resumed;
    }
    if ran.code == 0 {
        assert!(
            !has_to_end(mode, trace, fault),
            "an fsync failed, and the command went on: {fault:?}, {ran:?}"
        );
        return Outcome::Absorbed;
    }
    let said = ran.stderr.lines().last().unwrap_or_default();
    let said: Value = serde_json::from_str(said).unwrap_or_default();
    let reason = said["error"]["reason"].as_str();
    Outcome::Refused(
        reason
            .unwrap_or_else(|| panic!("no reason: {ran:?}"))
            .to_owned(),
    )
}

/// Goes through points of commands.
pub(super) fn go_through(plan: &Plan) {
    let machine = Machine::start();
    let mut lived = 0;
    let mut live = |disk: Disk, mode: Option<Mode>| {
        lived += 1;
        let mut life = Life {
            machine: &machine,
            identity: machine.data().join(format!("people/lives/{lived}")),
            number: lived,
            disk,
            mode,
            outcomes: Vec::new(),
        };
        fs::create_dir_all(&life.identity).unwrap();
        life.live();
        (life.disk.trace(), life.outcomes)
    };
    let disk = || machine.disk("client");
    let (whole, _) = live(disk(), None);
    plan.note_life(&whole.points);
    for mode in plan.modes.iter().copied() {
        let mut left = Left::new(plan, mode, &whole.points);
        while let Some(numbers) = left.next(plan) {
            let begun = Instant::now();
            let (trace, outcomes) = live(disk().failing(mode, &numbers), Some(mode));
            left.lived(plan, &trace, &outcomes);
            plan.note_pace(mode, outcomes.len(), begun);
        }
    }
}
