// Package outbox writes messages with the data they speak of and sends them after.
//
// # Failure prevented
//
// A service that commits and then publishes loses the message when it dies in
// between. One that publishes and then commits has told the world of something
// that never happened when the commit fails.
//
// # What it guarantees
//
// A message is published if, and only if, the transaction that appended it was
// committed; at least once. It is deleted only after the broker confirmed it and did
// not return it. A message that no queue is bound for stays, and holds up no other.
//
// # What it does not promise
//
// Exactly once: a crash between the confirm and the delete, a tenth of a second
// later, publishes again with the same id, and so does a lease that changes hands in
// the middle of a batch.
// Receivers stand on shared/pattern/changerecord. Order: messages of one subject mostly leave
// as they were appended, but what was handed over in memory overtakes what has to be
// read: what another replica wrote, or what a full queue did not take. And what the
// broker refused is sent again behind what it took.
//
// # Tables needed
//
// outbox and outbox_leases, see schema.sql.
//
// # Built on
//
// shared/platform/postgres and shared/platform/rabbit.
//
// # Used at
//
// Every message that leaves a service.
//
// # Source
//
// Thom Wright, "Designing for failure: Patterns": transactional outbox.
package outbox
