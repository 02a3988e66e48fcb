package fault

// Info describes one fault point.
type Info struct {
	Name string `json:"point"` // the constant below
	Says string `json:"says"`  // what has happened and what has not, when the process dies here
}

// The fault points, in the order in which an order meets them.
const (
	OrdersAcceptBeforeCommit = "orders.accept.before-commit"
	OrdersAcceptAfterCommit  = "orders.accept.after-commit"
	OrdersSagaBeforeCommit   = "orders.saga.before-commit"
	OrdersSagaAfterCommit    = "orders.saga.after-commit"

	PaymentsAuthoriseBeforeProcessor = "payments.authorise.before-processor"
	PaymentsRedeemBeforeRecovery     = "payments.redeem.before-recovery"
	PaymentsAuthoriseAfterProcessor  = "payments.authorise.after-processor"
	PaymentsCaptureBeforeProcessor   = "payments.capture.before-processor"
	PaymentsCaptureAfterProcessor    = "payments.capture.after-processor"
	PaymentsVoidAfterIntent          = "payments.void.after-intent"
	PaymentsVoidAfterProcessor       = "payments.void.after-processor"
	PaymentsRecordBeforeCommit       = "payments.record.before-commit"
	PaymentsRecordAfterCommit        = "payments.record.after-commit"

	LedgerSaleBeforeCommit = "ledger.sale.before-commit"
	LedgerSaleAfterCommit  = "ledger.sale.after-commit"

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
	{PaymentsAuthoriseBeforeProcessor, "a payment is begun, the processor knows nothing"},
	{PaymentsRedeemBeforeRecovery, "the card token was used before, we have not looked by whom"},
	{PaymentsAuthoriseAfterProcessor, "the money is held, we have not noted it"},
	{PaymentsCaptureBeforeProcessor, "the money is held, a capture is due"},
	{PaymentsCaptureAfterProcessor, "the money is taken, we have not noted it"},
	{PaymentsVoidAfterIntent, "the payment is to be voided, the processor knows nothing"},
	{PaymentsVoidAfterProcessor, "the hold is released, we have not noted it"},
	{PaymentsRecordBeforeCommit, "the processor has answered, neither payment nor reply is written"},
	{PaymentsRecordAfterCommit, "payment and reply are written, the command is not acknowledged"},
	{LedgerSaleBeforeCommit, "a sale or its reversal was asked for, nothing is booked"},
	{LedgerSaleAfterCommit, "it is booked, the command is not acknowledged"},
	{OutboxRelayBeforePublish, "messages were read from the outbox, none is sent"},
	{OutboxRelayAfterPublish, "the broker has the messages, the outbox has them still"},
	{ConsumerBeforeAck, "a message is handled, the broker does not know"},
	{CallbackDeliverAfterPost, "the merchant has the news, we have not noted it"},
}
