//! The session against text dialogues, hostile input and a reference automaton.

#[path = "it/dialogues.rs"]
mod dialogues;
#[path = "it/hostile.rs"]
mod hostile;
#[path = "it/line.rs"]
mod line;
#[path = "it/walk.rs"]
mod walk;
#[path = "it/world.rs"]
mod world;
