//! What an attempt that runs in a process of its own, a pod, does itself: reads what it is to do, and reports. Its token is
//! good for that attempt only.

pub(crate) mod begin;
pub(crate) mod finish;
pub(crate) mod log;
pub(crate) mod read;
