//! A program that is nothing but the launcher: what the tests and benches of this crate start.

fn main() {
    edict_runtime::launch::main()
}
