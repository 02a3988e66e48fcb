// Package rabbit is a thin layer over amqp091-go: connections that come back, one
// to publish and one to consume, a publisher that knows what arrived, a consumer
// that never loses a delivery.
//
// It has no opinion on patterns. What to do with a message that cannot be
// handled is decided in shared/pattern/reliableretries; when to publish, in
// shared/pattern/outbox.
//
// What survives a failure: a message is the broker's only after its confirm.
// Without one it may be there or not, and is published again; receivers must
// cope with duplicates. A delivery is ours only until its acknowledgement; when
// the connection breaks before that, the broker delivers it again.
package rabbit

// Exchange is the one topic exchange between the services; another system has another
// virtual host. The routing key of a message is its type, so who listens to what is the
// receiver's business.
const Exchange = "failwell"
