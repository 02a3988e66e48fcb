package fault

// Info describes one fault point.
type Info struct {
	Name string `json:"point"` // the constant below
	Says string `json:"says"`  // what has happened and what has not, when the process dies here
}

// The fault points, in the order in which an order, a refund and a payout meet them.
const (
	OrdersAcceptBeforeCommit = "orders.accept.before-commit"
	OrdersAcceptAfterCommit  = "orders.accept.after-commit"
	OrdersSagaBeforeCommit   = "orders.saga.before-commit"
	OrdersSagaAfterCommit    = "orders.saga.after-commit"

	PaymentsRedeemBeforeRecovery     = "payments.redeem.before-recovery"
	PaymentsRedeemAfterProcessor     = "payments.redeem.after-processor"
	PaymentsAuthoriseBeforeProcessor = "payments.authorise.before-processor"
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

	PaymentsReceiptAfterStore     = "payments.receipt.after-store"
	PaymentsReceiptAfterReference = "payments.receipt.after-reference"
	OrdersReceiptsAfterCommit     = "orders.receipts.after-commit"
	GarbageAfterBatch             = "garbage.after-batch"
	ReconcileAfterFetch           = "reconcile.after-fetch"
	ReconcileAfterMend            = "reconcile.after-mend"
	ReconcileAfterFinish          = "reconcile.after-finish"

	PaymentsWebhookAfterStore  = "payments.webhook.after-store"
	PaymentsSettleBeforeCommit = "payments.settle.before-commit"
	LedgerSettleBeforeCommit   = "ledger.settle.before-commit"
	LedgerSettleAfterCommit    = "ledger.settle.after-commit"

	PaymentsRefundAfterStart     = "payments.refund.after-start"
	PaymentsRefundAfterProcessor = "payments.refund.after-processor"
	PaymentsRefundAfterDecided   = "payments.refund.after-decided"
	PaymentsRefundAfterLedger    = "payments.refund.after-ledger"
	PaymentsRefundAfterPosted    = "payments.refund.after-posted"
	PaymentsRefundAfterFinish    = "payments.refund.after-finish"
	LedgerEntryAfterCommit       = "ledger.entry.after-commit"

	PaymentsPayoutAfterStart         = "payments.payout.after-start"
	LedgerPayoutAfterPrepare         = "ledger.payout.after-prepare"
	PaymentsPayoutAfterLedgerPrepare = "payments.payout.after-ledger-prepare"
	PaymentsPayoutAfterPrepare       = "payments.payout.after-prepare"
	TwoPhaseAfterDecision            = "twophase.after-decision"
	LedgerPayoutAfterCommit          = "ledger.payout.after-commit"
	TwoPhaseAfterCommit              = "twophase.after-commit"
	PaymentsPayoutAfterGuard         = "payments.payout.after-guard"
	PaymentsPayoutAfterBank          = "payments.payout.after-bank"
	PaymentsPayoutAfterDecided       = "payments.payout.after-decided"
	PaymentsPayoutAfterFinish        = "payments.payout.after-finish"
)

// Points is the registry: every point there is, so that a sweep cannot miss one.
var Points = []Info{
	{OrdersAcceptBeforeCommit, "an order was priced, nothing is written"},
	{OrdersAcceptAfterCommit, "an order is written, the client has no answer"},
	{OrdersSagaBeforeCommit, "a reply was received, the next step is not written"},
	{OrdersSagaAfterCommit, "the next step is written, the reply not acknowledged"},
	{PaymentsRedeemBeforeRecovery, "the card token was used before, we have not looked by whom"},
	{PaymentsRedeemAfterProcessor, "the card token is redeemed, no row of ours says so"},
	{PaymentsAuthoriseBeforeProcessor, "a payment is begun with what the token gave, no hold has been asked for"},
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
	{PaymentsReceiptAfterStore, "receipts are stored, no payment refers to them"},
	{PaymentsReceiptAfterReference, "payments refer to their receipts, orders has not been told"},
	{OrdersReceiptsAfterCommit, "orders know their receipts, the message is not acknowledged"},
	{GarbageAfterBatch, "some garbage is gone, the rest is not"},
	{ReconcileAfterFetch, "the statements are fetched, nothing is compared"},
	{ReconcileAfterMend, "a difference is mended, the report does not say so"},
	{ReconcileAfterFinish, "the report is complete, whoever asked has not got it"},
	{PaymentsWebhookAfterStore, "the processor's news is stored, it has no answer"},
	{PaymentsSettleBeforeCommit, "the processor's news is about to be applied"},
	{LedgerSettleBeforeCommit, "a settlement was announced, nothing is booked"},
	{LedgerSettleAfterCommit, "a settlement is booked, the message is not acknowledged"},
	{PaymentsRefundAfterStart, "a refund's amount is set aside, nobody has been asked"},
	{PaymentsRefundAfterProcessor, "the processor has given the money back, we have not noted it"},
	{PaymentsRefundAfterDecided, "the refund is noted, the books know nothing"},
	{PaymentsRefundAfterLedger, "the books have the refund, we have not noted it"},
	{PaymentsRefundAfterPosted, "everything is done and noted, the client's answer is not"},
	{PaymentsRefundAfterFinish, "the answer is recorded, the client has not got it"},
	{LedgerEntryAfterCommit, "an entry is booked, whoever asked for it has no answer"},
	{PaymentsPayoutAfterStart, "a payout was asked for, nothing has moved"},
	{LedgerPayoutAfterPrepare, "the ledger has prepared its half, the coordinator does not know"},
	{PaymentsPayoutAfterLedgerPrepare, "the ledger has prepared its half, we have not prepared ours"},
	{PaymentsPayoutAfterPrepare, "both halves are prepared, nothing is decided"},
	{TwoPhaseAfterDecision, "it is decided, nobody has been told"},
	{LedgerPayoutAfterCommit, "the ledger has committed its half, the coordinator does not know"},
	{TwoPhaseAfterCommit, "both halves are committed, the coordinator has not noted it"},
	{PaymentsPayoutAfterGuard, "the guard is entered, the bank has not been asked"},
	{PaymentsPayoutAfterBank, "the bank has sent the money, we have not noted it"},
	{PaymentsPayoutAfterDecided, "the payout's outcome is noted, the client's answer is not"},
	{PaymentsPayoutAfterFinish, "the answer is recorded, the client has not got it"},
}
