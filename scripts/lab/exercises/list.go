package exercises

// All exercises, in the order of the lessons.
var All = []Exercise{
	{
		N: "1", Title: "Two refunds at once",
		Task: `A payment of 10.00 is given back twice over 6.00, under two keys, at the same moment. Both are
accepted, and the payment's row says that 6.00 was given back. One after the other they would be right.
Make the second one see what the first one has done.`,
		Package: "./services/payments", Test: "TestStartRefund_TwoAtOnceStayWithinTheCapture",
	},
	{
		N: "1b", Title: "The reply first, then the books",
		Task: `A merchant's account was closed, and a sale was booked on it a moment later. The database has a
constraint against exactly that. Find out why it saw nothing, and what else can go wrong at that place.
Then put together what belongs together.`,
		Package: "./services/ledger", Test: "TestPostSale_OnAnAccountThatIsClosedMeanwhileIsRefused",
	},
	{
		N: "1c", Title: "Two and a half percent",
		Task: `For some amounts the ledger refuses to book a sale: its entry does not sum to zero. Split the
amount so that no unit is lost, whatever the amount: up to the largest that 64 bits hold. The fee is rounded down.`,
		Package: "./services/ledger", Test: "TestSalePostings_AddUpExactlyForEveryAmount",
	},
	{
		N: "2", Title: "First the key, then the order",
		Task: `Two clients order the last mug at the same moment. Both are told "202 accepted", and every retry
says so again. One of the two has no order. Let the answer be there only if the order is.`,
		Package: "./services/orders", Test: "TestAccept_OldReadWritesNothing",
		Wrong: []Wrong{
			{"order-first", "TestAccept_ManyAtOnceWithOneKeyMakeOneOrder"},
			{"order-first", "TestAccept_RetryAfterTheProcessHasDiedLeadsToOneOrder"},
			{"key-deleted", "TestAccept_RetryAfterTheProcessHasDiedLeadsToOneOrder"},
		},
	},
	{
		N: "2b", Title: "The same request in other words",
		Task: `A client library was upgraded, and now writes the fields of an object in another order. Its retries
get 422: "this key was used for another request". Make the retry known again, and let a request with
other content still be refused.`,
		Package: "./shared/pattern/idempotency", Test: "TestFingerprint_IsTheSameForAnotherSpelling",
	},
	{
		N: "2c", Title: "Stricter than the record",
		Task: `A field is not taken any more since yesterday's deploy. Clients that had sent it, and whose orders
were accepted, get 422 for their retry and have no order id. Give them their answer.`,
		Package: "./services/orders", Test: "TestAccept_RetryOfAnAcceptedOrderAfterADeploy",
	},
	{
		N: "3", Title: "A relay that remembers how far it came",
		Task: `Under load some messages stay in the outbox, although the relay runs and the broker is there. After
a restart of the process they go out. Find out why, and see to it that the relay publishes every message
that its process has committed.`,
		Package: "./shared/pattern/outbox", Test: "TestRelay_ReadsRowsThatCommitOutOfOrder",
		Wrong: []Wrong{{"with-a-margin", "TestRelay_ReadsRowsThatCommitOutOfOrder"}},
	},
	{
		N: "3b", Title: "The inbox first",
		Task: `A settlement came to the ledger before its sale was booked, failed as it should, and came again
later. It was acknowledged, and the books do not have it. Let a message that failed be handled again,
and one that was handled not.`,
		Package: "./services/ledger", Test: "TestSettle_ThatOvertakesItsSaleIsBookedWhenItComesAgain",
		Wrong: []Wrong{{"inbox-further-down", "TestSettle_WhoseBookingFailsIsBookedWhenItComesAgain"}},
	},
	{
		N: "3c", Title: "A relay that locks its rows",
		Task: `With two replicas many messages are published twice, each time. The relay was changed so that any
replica takes what no other has locked. What does the lock protect, and for how long?`,
		Package: "./shared/pattern/outbox", Test: "TestTakeover_LeavesTheRowsOfALivingWriterAlone",
	},
	{
		N: "3d", Title: "The last confirm speaks for all",
		Task: `The broker refused a message (its queue was full), and the message is gone from the outbox.
Let the outbox delete what the broker has taken, and nothing else.`,
		Package: "./shared/platform/rabbit", Test: "TestPublisher_ReportsARefusalOfTheBroker",
	},
	{
		N: "3e", Title: "A message with no queue",
		Task: `The receiver's queue was missing for a minute after a deploy. What was published in that minute
was confirmed by the broker, and is nowhere. Make such a message stay in the outbox.`,
		Package: "./shared/platform/rabbit", Test: "TestPublisher_UnroutableMessageIsNotConfirmed",
	},
	{
		N: "3f", Title: "Always tidy up",
		Task: `The card processor was away for a second. All commands of that second are gone, with a line in the log
each. Acknowledge a message only when it is handled or safe somewhere else.`,
		Package: "./shared/pattern/reliableretries", Test: "TestConsumer_FailureComesBackLaterAndHoldsUpNoOther",
	},
	{
		N: "3g", Title: "Mark it, then send it",
		Task: `A process was killed while it published. It was started again, and the messages that it had marked
are still in the outbox an hour later. The takeover is switched off in the check: let the process that
was started again send them by itself. A crash may cost a duplicate, and never a message.`,
		Package: "./shared/pattern/outbox", Test: "TestRelay_ACrashBeforeTheDeletePublishesAgainUnderTheSameID",
	},
	{
		N: "3h", Title: "And then run this script",
		Task: `On a fresh machine orders are accepted and nothing moves on. The wiki says that after the first
start an operator has to run create-queues.sh. Make the step unnecessary.`,
		Package: "./shared/pattern/reliableretries", Test: "TestConsumer_DeclaresItsQueuesOnABrokerThatHasNone",
	},
	{
		N: "4", Title: "A key for each request",
		Task: `The processor's answer to an authorisation was lost; payments asked again; the customer has two
holds on the card. The calls for a hold do carry an Idempotency-Key. Let there be one hold, also when another process
asks the second time.`,
		Package: "./services/payments", Test: "TestAuthorise_WhoseAnswerIsLostHoldsOnce",
	},
	{
		N: "4b", Title: "No answer is a no",
		Task: `When the processor is slow, orders are cancelled, and their customers have a hold on the card or
have even paid. Tell a refusal from silence.`,
		Package: "./services/payments", Test: "TestCommand_WithoutAnAnswerOfTheProcessorIsNotRefused",
	},
	{
		N: "4c", Title: "The refund, all in one transaction",
		Task: `A colleague has put the call to the processor and the record of its answer into one transaction.
Since then no refund gets through: our own HTTP client refuses the call. Find out what it protects us from,
and put the call where it belongs.`,
		Package: "./services/payments", Test: "TestRefund_IsLookedUpWhenTheProcessorHasForgottenTheKey",
	},
	{
		N: "4d", Title: "However late",
		Task: `A refund was stuck for two days and then went on. The processor has given the money back twice:
it keeps keys for a day. Let a late run find out what was done, without asking for it again.`,
		Package: "./services/payments", Test: "TestRefund_IsLookedUpWhenTheProcessorHasForgottenTheKey",
	},
	{
		N: "5", Title: "The point first",
		Task: `To be safe from asking twice, the refund now writes its recovery point before it asks the
processor. Some refunds are "succeeded" here and in the ledger, and the customer has not got the money.
Put the point where it is true.`,
		Package: "./services/payments", Test: "TestResumeRefund_ThatNeverArrivedIsAskedForAgain",
	},
	{
		N: "5b", Title: "One at a time",
		Task: `A process died in the middle of a refund. Every retry of its client gets 409 "in progress",
until the completer has finished the refund; without a completer, always. Keep two requests from working
at once, and let the next one take over from a dead one.`,
		Package: "./shared/pattern/idempotency", Test: "TestLock_FencesOffAHolderThatWasTakenOver",
	},
	{
		N: "5c", Title: "A completer that helps too much",
		Task: `The completer now takes all that is not finished, the oldest first. Refunds that wait for a slow
processor are worked on by two runs at once, and the first one loses its lock in the middle. Let it take
only what was abandoned.`,
		Package: "./shared/pattern/idempotency", Test: "TestClaimAbandoned_LeavesWhatIsHeldOrInItsGrace",
	},
	{
		N: "6", Title: "Only what succeeded has to be compensated",
		Task: `Orders that were cancelled at a bad moment leave a hold on the customer's card. Cancel compensates
the steps that have succeeded. Which step does it forget?`,
		Package: "./shared/pattern/saga", Test: "TestPlan_ManyRandomWalksEndWell",
	},
	{
		N: "6b", Title: "There is nothing to void",
		Task: `A void came when there was no payment yet, and was answered "done". A second later the authorise,
which it had overtaken, held the money of a cancelled order. Make the void good for later, too.`,
		Package: "./services/payments", Test: "TestVoid_BeforeItsAuthoriseLeavesATombstone",
	},
	{
		N: "6c", Title: "The saga is in good hands",
		Task: `To save a write, the process now remembers where each order stands. With one replica, all is well
until it is restarted; with two, orders stand still at once. Put the saga where every replica finds it, and
where it belongs to the order.`,
		Package: "./services/orders", Test: "TestProceed_OneReplicaAfterTheOther",
	},
	{
		N: "7", Title: "Let the next one through",
		Task: `The bank's answer to a payout was lost. The guard was taken away, so that a retry may go through,
and the retry paid a second time. Let the bank be asked once at most, and let the answer to the client be
honest.`,
		Package: "./services/payments", Test: "TestResumePayout_WithoutABankAnswerAsksNoMore",
	},
	{
		N: "7b", Title: "The amount is right",
		Task: `Reconciliation found a transfer of 100 on the bank's statement and resolved our payout of 100 as
sent. The merchant complains: it was sent 100 yen for 1.00 pound. Let such a difference go to a person.`,
		Package: "./services/payments", Test: "TestJudgeTransfer_AnotherCurrencyIsNotOurPayout",
	},
	{
		N: "7c", Title: "One bad line",
		Task: `The processor's report has a line with an amount that is a word. Since then no reconciliation ends,
and missed webhooks are not made up for. Let one line be a difference, and the others be compared.`,
		Package: "./services/payments", Test: "TestReconcile_UnreadableLineIsADifference",
	},
}
