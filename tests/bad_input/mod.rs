//! Bad input gets a clear answer, and nothing is lost; through the real binary. What a port, a folder or a configuration
//! in the way is told is in `tests/cli/`, and every odd body in `tests/api/`.

mod refused;
mod unwell;
