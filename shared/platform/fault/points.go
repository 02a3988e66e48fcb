package fault

// Info describes one fault point.
type Info struct {
	Name string `json:"point"`
	Says string `json:"says"` // what has happened and what has not, when the process dies here
}

// Points is the registry: every point there is, so that a sweep cannot miss one.
var Points []Info

var known = map[string]bool{}

func point(name, says string) string {
	Points, known[name] = append(Points, Info{name, says}), true
	return name
}

// The fault points, in the order in which an order, a refund and a payout meet them.
var (
	OrdersAcceptBeforeCommit = point("orders.accept.before-commit", "an order was priced, nothing is written")
	OrdersAcceptAfterCommit  = point("orders.accept.after-commit", "an order is written, the client has no answer")
	OrdersSagaBeforeCommit   = point("orders.saga.before-commit", "a reply was received, the next step is not written")
	OrdersSagaAfterCommit    = point("orders.saga.after-commit", "the next step is written, the reply not acknowledged")

	PaymentsRedeemBeforeRecovery     = point("payments.redeem.before-recovery", "the card token was used before, we have not looked by whom")
	PaymentsRedeemAfterProcessor     = point("payments.redeem.after-processor", "the card token is redeemed, no row of ours says so")
	PaymentsAuthoriseBeforeProcessor = point("payments.authorise.before-processor", "a payment is begun with what the token gave, no hold has been asked for")
	PaymentsAuthoriseAfterProcessor  = point("payments.authorise.after-processor", "the money is held, we have not noted it")
	PaymentsCaptureBeforeProcessor   = point("payments.capture.before-processor", "the money is held, a capture is due")
	PaymentsCaptureAfterProcessor    = point("payments.capture.after-processor", "the money is taken, we have not noted it")
	PaymentsVoidAfterIntent          = point("payments.void.after-intent", "the payment is to be voided, the processor knows nothing")
	PaymentsVoidAfterProcessor       = point("payments.void.after-processor", "the hold is released, we have not noted it")
	PaymentsRecordBeforeCommit       = point("payments.record.before-commit", "the processor has answered, neither payment nor reply is written")
	PaymentsRecordAfterCommit        = point("payments.record.after-commit", "payment and reply are written, the command is not acknowledged")

	LedgerSaleBeforeCommit = point("ledger.sale.before-commit", "a sale or its reversal was asked for, nothing is booked")
	LedgerSaleAfterCommit  = point("ledger.sale.after-commit", "it is booked, the command is not acknowledged")

	OutboxRelayBeforePublish = point("outbox.relay.before-publish", "messages were read from the outbox, none is sent")
	OutboxRelayAfterPublish  = point("outbox.relay.after-publish", "the broker has the messages, the outbox has them still")
	ConsumerBeforeAck        = point("consumer.before-ack", "a message is handled, the broker does not know")

	CallbackDeliverAfterPost = point("callback.deliver.after-post", "the merchant has the news, we have not noted it")

	PaymentsReceiptAfterStore     = point("payments.receipt.after-store", "receipts are stored, no payment refers to them")
	PaymentsReceiptAfterReference = point("payments.receipt.after-reference", "payments refer to their receipts, orders has not been told")
	OrdersReceiptsAfterCommit     = point("orders.receipts.after-commit", "orders know their receipts, the message is not acknowledged")
	GarbageAfterBatch             = point("garbage.after-batch", "some garbage is gone, the rest is not")
	ReconcileAfterFetch           = point("reconcile.after-fetch", "the statements are fetched, nothing is compared")
	ReconcileAfterFix             = point("reconcile.after-fix", "a difference is fixed, the report does not say so")
	ReconcileAfterFinish          = point("reconcile.after-finish", "the report is complete, the client has not got it")

	PaymentsWebhookAfterStore  = point("payments.webhook.after-store", "the processor's news is stored, it has no answer")
	PaymentsSettleBeforeCommit = point("payments.settle.before-commit", "the processor's news is about to be applied")
	LedgerSettleBeforeCommit   = point("ledger.settle.before-commit", "a settlement was announced, nothing is booked")
	LedgerSettleAfterCommit    = point("ledger.settle.after-commit", "a settlement is booked, the message is not acknowledged")

	PaymentsRefundAfterStart     = point("payments.refund.after-start", "a refund's amount is set aside, the processor has not been asked")
	PaymentsRefundAfterProcessor = point("payments.refund.after-processor", "the processor has given the money back, we have not noted it")
	PaymentsRefundAfterDecided   = point("payments.refund.after-decided", "the refund is noted, the books know nothing")
	PaymentsRefundAfterLedger    = point("payments.refund.after-ledger", "the books have the refund, we have not noted it")
	PaymentsRefundAfterPosted    = point("payments.refund.after-posted", "everything is done and noted, the client's answer is not")
	PaymentsRefundAfterFinish    = point("payments.refund.after-finish", "the answer is recorded, the client has not got it")
	LedgerEntryAfterCommit       = point("ledger.entry.after-commit", "an entry is booked, the caller has no answer")

	PaymentsPayoutAfterStart         = point("payments.payout.after-start", "a payout was asked for, nothing has moved")
	LedgerPayoutAfterPrepare         = point("ledger.payout.after-prepare", "the ledger has prepared its half, the coordinator does not know")
	PaymentsPayoutAfterLedgerPrepare = point("payments.payout.after-ledger-prepare", "the ledger has prepared its half, we have not prepared ours")
	PaymentsPayoutAfterPrepare       = point("payments.payout.after-prepare", "both halves are prepared, nothing is decided")
	TwoPhaseAfterDecision            = point("twophase.after-decision", "it is decided, no participant has been told")
	LedgerPayoutAfterCommit          = point("ledger.payout.after-commit", "the ledger has committed its half, the coordinator does not know")
	TwoPhaseAfterCommit              = point("twophase.after-commit", "both halves are committed, the coordinator has not noted it")
	PaymentsPayoutAfterGuard         = point("payments.payout.after-guard", "the guard is entered, the bank has not been asked")
	PaymentsPayoutAfterBank          = point("payments.payout.after-bank", "the bank has sent the money, we have not noted it")
	PaymentsPayoutAfterDecided       = point("payments.payout.after-decided", "the payout's outcome is noted, the client's answer is not")
	PaymentsPayoutAfterFinish        = point("payments.payout.after-finish", "the answer is recorded, the client has not got it")
)
