package fault

// Info describes one fault point.
type Info struct {
	Name string // the constant below
	Says string // what has happened and what has not, when the process dies here
}

// The fault points, in the order in which an order meets them.
const (
	OrdersAcceptBeforeCommit = "orders.accept.before-commit"
	OrdersAcceptAfterCommit  = "orders.accept.after-commit"
	OrdersSagaBeforeCommit   = "orders.saga.before-commit"
	OrdersSagaAfterCommit    = "orders.saga.after-commit"

	OutboxRelayBeforePublish = "outbox.relay.before-publish"
	OutboxRelayAfterPublish  = "outbox.relay.after-publish"
	ConsumerBeforeAck        = "consumer.before-ack"

	CallbackDeliverAfterPost = "callback.deliver.after-post"
)

// Points is the registry: every point there is, so that a sweep cannot miss one.
var Points = []Info{
	{OrdersAcceptBeforeCommit, "an order was priced, nothing is written"},
	{OrdersAcceptAfterCommit, "an order is written, the client has no answer"},
	{OrdersSagaBeforeCommit, "a reply was received, the next step is not written"},
	{OrdersSagaAfterCommit, "the next step is written, the reply not acknowledged"},
	{OutboxRelayBeforePublish, "messages were read from the outbox, none is sent"},
	{OutboxRelayAfterPublish, "the broker has the messages, the outbox has them still"},
	{ConsumerBeforeAck, "a message is handled, the broker does not know"},
	{CallbackDeliverAfterPost, "the merchant has the news, we have not noted it"},
}
