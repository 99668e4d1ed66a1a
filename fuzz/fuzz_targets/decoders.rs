//! One target of `greffe_fuzz::TARGETS`, chosen by the variable `GREFFE_FUZZ`: one program to build, many to run.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<greffe_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("GREFFE_FUZZ").expect("GREFFE_FUZZ names a target");
    greffe_fuzz::target(&name).expect("GREFFE_FUZZ names a target of greffe_fuzz::TARGETS")
});

fuzz_target!(|data: &[u8]| TARGET(data));
