//! Compiles the clock and randomness of simulated threads, and links them before the system's into this package's programs.

fn main() {
    let objects = cc::Build::new()
        .file("native/machine.c")
        .warnings(true)
        .compile_intermediates();
    for object in objects {
        println!("cargo:rustc-link-arg={}", object.display());
    }
    // Some look the function up by name.
    println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol=getrandom");
    println!("cargo:rerun-if-changed=native/machine.c");
}
