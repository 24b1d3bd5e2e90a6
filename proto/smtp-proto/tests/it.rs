//! Both sessions against text dialogues and hostile input, the server's against a reference automaton, and each against
//! the other.

#[path = "it/client.rs"]
mod client;
#[path = "it/corpus.rs"]
mod corpus;
#[path = "it/dialogues.rs"]
mod dialogues;
#[path = "it/hearing.rs"]
mod hearing;
#[path = "it/hostile.rs"]
mod hostile;
#[path = "it/house.rs"]
mod house;
#[path = "it/line.rs"]
mod line;
#[path = "it/meeting.rs"]
mod meeting;
#[path = "it/scripted.rs"]
mod scripted;
#[path = "it/walk.rs"]
mod walk;
#[path = "it/world.rs"]
mod world;
