//! The same for a client: a life by commands, each a process of its own, one of which dies or is refused by its disk; the same
//! command again has to do what it is for.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use greffe_testkit::faults::{DIED, Mode, Point, Trace};
use serde_json::Value;

use super::machine::Machine;
use super::points::{
    BEYOND, Outcome, Plan, Which, chosen, class, is_done_again, known, note, note_end, note_life,
};
use crate::support::{Ran, greffe};

/// A command whose disk fails, and what came of it.
struct Fault {
    number: u64,
    mode: Mode,
    /// Points of the commands before.
    passed: u64,
    found: Option<(Point, Outcome)>,
}

/// One life of two users who are met nowhere else, in a folder of their own.
struct Life<'a> {
    machine: &'a Machine,
    identity: PathBuf,
    number: u32,
    fault: Option<Fault>,
    points: Vec<Point>,
}

impl Life<'_> {
    /// Runs a command, again when its fault stopped it; gives its JSON object.
    fn json(&mut self, arguments: &[&str]) -> Value {
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
        let file = self.machine.trace_file("client");
        let people = self.machine.data().join("people");
        let mut command = greffe();
        command
            .args(arguments)
            .args(["--output", "json", "--identity"])
            .arg(&self.identity)
            .env("GREFFE_DATA", self.machine.data());
        let pending = self.fault.as_ref().filter(|fault| fault.found.is_none());
        let at = pending.map(|fault| (fault.number - fault.passed, fault.mode));
        self.machine
            .faults()
            .inject(&mut command, &people, &file, at);
        let ran = Ran::of(command.output().unwrap());
        let trace = Trace::read(&file);
        self.points.extend(trace.points.iter().cloned());
        assert!(!ran.stderr.contains("panicked"), "{arguments:?}: {ran:?}");
        if at.is_none() {
            return ran;
        }
        let fault = self.fault.as_mut().expect("one is pending");
        match &trace.fault {
            None => {
                let passed = trace.points.iter();
                fault.passed += passed
                    .filter(|p| fault.mode != Mode::Full || p.takes_room())
                    .count() as u64;
            }
            Some(point) => {
                let outcome = outcome(fault.mode, &trace, &ran);
                fault.found = Some((point.clone(), outcome));
            }
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
            let shown = self.json(&show);
            let mut members = shown["members"].as_array().unwrap().iter();
            if members.any(|member| member["user"] == bob) {
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

fn outcome(mode: Mode, trace: &Trace, ran: &Ran) -> Outcome {
    if mode.is_death() {
        assert_eq!(ran.code, DIED, "{ran:?}");
        return Outcome::Resumed;
    }
    if ran.code == 0 {
        let failed = mode == Mode::Broken && trace.failed_sync() && !is_done_again(trace);
        assert!(
            !failed,
            "an fsync failed, and the command went on: {:?}, {ran:?}",
            trace.fault
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
    let known = known(plan);
    let machine = Machine::start();
    let mut lived = 0;
    let mut live = |fault: Option<(u64, Mode)>| {
        lived += 1;
        let mut life = Life {
            machine: &machine,
            identity: machine.data().join(format!("people/lives/{lived}")),
            number: lived,
            fault: fault.map(|(number, mode)| Fault {
                number,
                mode,
                passed: 0,
                found: None,
            }),
            points: Vec::new(),
        };
        fs::create_dir_all(&life.identity).unwrap();
        life.live();
        let found = life.fault.and_then(|fault| fault.found);
        (life.points, found)
    };
    let (points, _) = live(None);
    note_life(plan, &points);
    for mode in plan.modes.iter().copied() {
        // Numbered through all commands of a life.
        let numbered: Vec<Point> = points
            .iter()
            .zip(1..)
            .map(|(point, number)| Point {
                number,
                ..point.clone()
            })
            .collect();
        let mut numbers = chosen(&plan.which, mode, &numbered);
        let (mut at, mut beyond) = (0, 0);
        while let Some(number) = numbers.get(at).copied() {
            at += 1;
            let mut there = known.contains(&(mode, number));
            for _ in 0..BEYOND {
                if there {
                    break;
                }
                let begun = Instant::now();
                if let (_, Some((point, outcome))) = live(Some((number, mode))) {
                    let took = begun.elapsed().as_millis();
                    let line = format!("{}\t{}\t{outcome}\t{took}", point.kind, class(&point.path));
                    note(plan, mode, number, &line);
                    there = true;
                }
            }
            beyond = if there { 0 } else { beyond + 1 };
            if let Which::Every { step, .. } = plan.which
                && at == numbers.len()
                && beyond < BEYOND
            {
                numbers.push(number + step as u64);
            }
        }
        note_end(plan, mode);
    }
}
