//! The program carries the Python SDK and a sample policy, for `edict demo`: it is built anew when they change.

fn main() {
    for folder in ["../../sdk/python/src", "../../policies", "migrations"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
