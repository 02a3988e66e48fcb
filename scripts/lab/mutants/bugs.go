package mutants

// Bug is a mistake of our own that was found and fixed. Its edits bring it back,
// and the named test must then fail: the record can be repeated at any time.
type Bug struct {
	ID        string
	Date      string
	FoundBy   string
	Broke     string // what went wrong, and what it would have cost
	Invariant string // which of the audit's it broke; "" for none: it broke a promise that no database shows
	Fixed     string
	Edits     []Edit
	Package   string
	Test      string
}

// Bugs is the track record, oldest first.
var Bugs = []Bug{
	{
		ID: "accounts-opened-in-any-order", Date: "2026-11-23",
		FoundBy: "a test that holds two entries at each of their locks in turn",
		Broke:   "two entries that open the same new accounts in opposite order wait for each other; PostgreSQL ends one of them after a second (40P01), and it is done again: slow, and more slowly the more merchants are new",
		Fixed:   "accounts are opened in the order of their ids, as balances are moved",
		Edits: []Edit{{"services/ledger/entry.go", `		 ORDER BY id
		    ON CONFLICT (id) DO NOTHING` + "`,\n\t\taccounts)", `		    ON CONFLICT (id) DO NOTHING` + "`,\n\t\taccounts)"}},
		Package: "./services/ledger", Test: "TestEntry_OpeningAccountsInOppositeOrderBothCommit",
	},
	{
		ID: "signed-with-nothing", Date: "2026-11-23",
		FoundBy:   "a table of merchants with no secret, an empty one, and a bare whsec_",
		Broke:     "a callback to a merchant without a secret was signed with an empty key: a valid signature that anybody can make",
		Invariant: "called-back",
		Fixed:     "nothing is sent without a secret; each try fails and says why, and after the last the delivery is parked",
		Edits: []Edit{{"shared/pattern/callback/sender.go", `case strings.TrimPrefix(*d.secret, "whsec_") == "":`,
			`case strings.TrimPrefix(*d.secret, "whsec_") == "never":`}},
		Package: "./shared/pattern/callback", Test: "TestSender_SendsNothingWithoutASecret",
	},
	{
		ID: "private-in-disguise", Date: "2026-11-23",
		FoundBy: "a table of addresses",
		Broke:   "a callback URL that resolves to a NAT64, 6to4, Teredo or reserved address passed the check for private networks, and could reach into ours",
		Fixed:   "of IPv6 only what is given out, less the tunnels; of IPv4 not the reserved ranges either",
		Edits:   []Edit{{"shared/pattern/callback/filter.go", `to.Port())); err != nil {`, `to.Port())); err != nil && ip.IsPrivate() {`}},
		Package: "./shared/pattern/callback", Test: "TestFilter_RefusesWhatIsNotOnTheInternet",
	},
	{
		ID: "retry-after-overflows", Date: "2026-11-23",
		FoundBy: "a table of Retry-After values",
		Broke:   "Retry-After: 10000000000 came out negative and was ignored: the endpoint that asked to be left alone was called again at once",
		Fixed:   "bounded before it is multiplied",
		Edits: []Edit{{"shared/pattern/callback/sender.go", `time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second`,
			`time.Duration(seconds) * time.Second`}},
		Package: "./shared/pattern/callback", Test: "TestSender_HonoursRetryAfterWithinBounds",
	},
	{
		ID: "one-merchant-takes-all-places", Date: "2026-11-23",
		FoundBy: "forty deliveries to an endpoint that hangs",
		Broke:   "one merchant's backlog took every place that there is for sending; the others' callbacks waited for its time-outs",
		Fixed:   "a merchant has places of its own, a fraction of all",
		Edits:   []Edit{{"shared/pattern/callback/worker.go", `	perMerchant = 32`, `	perMerchant = 1000`}},
		Package: "./shared/pattern/callback", Test: "TestWorker_HangingMerchantsDoNotHoldUpOthers",
	},
	{
		ID: "a-hold-that-leaks", Date: "2026-11-23",
		FoundBy:   "tests of payments against the sandbox: slow to redeem for one, refusing another",
		Broke:     "redeeming a card token takes no key, so a refusal of one redemption says nothing about another that is under way. A void whose own redemption was refused said \"nothing is held\", and then the slow one came through and held the money: voided here, authorised at the processor, for as long as the card's bank likes. Two who authorised at once could do the same",
		Invariant: "charged-once",
		Fixed:     "no code asks for a hold before the payment is begun in our books by one insert; the first insert decides, the authorisation, a refusal or a void. The void needs no redemption of its own any more",
		Edits: []Edit{
			{"services/payments/authorise.go", `		case declined:`, `		case "never":`},
			{"services/payments/authorise.go", `		p.ChargeID, err = s.placeHold(ctx, p)`, `		p.Method = method
		p.ChargeID, err = s.placeHold(ctx, p)`},
		},
		Package: "./services/payments", Test: "TestAuthorise_OneOfTwoIsRefusedTheTokenLeavesNothingHeld",
	},
	{
		ID: "another-answer-later", Date: "2026-11-24",
		FoundBy:   "the sweep, once its delays outlasted those who wait: 16 of 348 combinations, for one delay at payments.refund.after-posted, the client retries",
		Broke:     "a refund or payout that took too long was answered 202 with whatever its row said by then, \"succeeded\" perhaps, beside the 201 that was recorded under the key: two answers to one request",
		Invariant: "same-answer",
		Fixed:     "who could not finish looks for the recorded answer before it says \"later\", and says pending when there is none",
		Edits: []Edit{{"services/payments/operation.go", `		return answer.Answer(c.Response())
	}
	location, view`, `		answer.Exists = true // and is not given
	}
	location, view`}},
		Package: "./services/payments", Test: "TestAnswerPending_GivesTheAnswerThatIsRecordedByNow",
	},
	{
		ID: "gone-and-carried-out", Date: "2026-11-28",
		FoundBy: "a stream of batches whose callers give up, against one locked row",
		Broke:   "a batch was written although its caller had given up before it entered a transaction: 894 of them in four seconds; with clients that retry, the work doubles in the moment of trouble",
		Fixed:   "a caller that goes takes its batch with it, as long as it is in no transaction",
		Edits: []Edit{{"shared/platform/postgres/group.go", `func(r *request) bool { return !r.taken.CompareAndSwap(false, true) }`,
			`func(r *request) bool { r.taken.Store(true); return false }`}},
		Package: "./shared/platform/postgres", Test: "TestGrouped_BatchOfACallerThatIsGoneIsNotCarriedOut",
	},
	{
		ID: "locked-row-holds-up-others", Date: "2026-11-28",
		FoundBy: "a stream of 160 batches a second that want one locked row",
		Broke:   "each group met a batch that wanted the row, and every member waited with it: others took 3.1 s and more with every second",
		Fixed:   "a row whose lock a batch could not get is remembered for a second, and what wants it is left out of the groups",
		Edits:   []Edit{{"shared/platform/postgres/group.go", `			row := g.locked.wantedBy(r.queries)`, `			row := (*rowKey)(nil)`}},
		Package: "./shared/platform/postgres", Test: "TestGrouped_LockedRowDoesNotHoldUpOthers",
	},
	{
		ID: "locked-merchant-takes-all-workers", Date: "2026-11-28",
		FoundBy: "a stream of sales of a merchant whose account a payout in doubt has locked",
		Broke:   "each of them kept a worker of the ledger's consumer for five seconds, and the platform's account locked meanwhile: another merchant's sale took 10.7 s",
		Fixed:   "a few handlers wait, the others give up after a tenth of a second, and their messages wait at the broker; merchants' accounts are locked before the platform's",
		Edits: []Edit{
			{"services/ledger/main.go", `	placeWait = 100 * time.Millisecond`, `	placeWait = 5 * time.Second`},
			{"services/ledger/entry.go", `return cmp.Compare(merchantOf(b), merchantOf(a))`, `return cmp.Compare(a, b)`},
		},
		Package: "./services/ledger", Test: "TestReceive_OneMerchantsLockedAccountLeavesWorkersToOthers",
	},
	{
		ID: "forgotten-key-refunds-twice", Date: "2026-11-28",
		FoundBy:   "a partial refund whose answer was lost, gone on with after the processor has forgotten its key",
		Broke:     "the processor was asked again and gave the money back a second time: 10.00 there, 5.00 in our row. A month of replays was allowed, against a day for which processors keep keys",
		Invariant: "refund-bounded",
		Fixed:     "past the retention of keys a refund is looked up by its reference instead of being asked for again",
		Edits:     []Edit{{"services/payments/refund.go", `	if s.keyForgotten(r.CreatedAt) {`, `	if s.keyForgotten(r.CreatedAt.AddDate(100, 0, 0)) {`}},
		Package:   "./services/payments", Test: "TestRefund_IsLookedUpWhenTheProcessorHasForgottenTheKey",
	},
	{
		ID: "forgotten-key-holds-twice", Date: "2026-11-28",
		FoundBy:   "a void of an authorisation whose answer was lost, after the processor has forgotten its key",
		Broke:     "to find the charge, the void asked for the hold again: that made a second hold, which it released; the first stayed on the customer's card",
		Invariant: "charged-once",
		Fixed:     "past the retention of keys the holds are looked up by the payment's reference, and all of them are released",
		Edits: []Edit{
			{"services/payments/authorise.go", `	if s.keyForgotten(p.CreatedAt) {`, `	if s.keyForgotten(p.CreatedAt.AddDate(100, 0, 0)) {`},
			{"services/payments/void.go", `	case s.keyForgotten(p.CreatedAt):`, `	case s.keyForgotten(p.CreatedAt.AddDate(100, 0, 0)):`},
		},
		Package: "./services/payments", Test: "TestVoid_ReleasesEveryHoldWhenTheProcessorHasForgottenTheKey",
	},
	{
		ID: "strange-id-stops-reconciliation", Date: "2026-11-28",
		FoundBy: "a line of the processor's report with the id txn_1",
		Broke:   "the id was cast to a UUID in SQL: one such line ended every reconciliation with an error, and no missed webhook was ever made up for again",
		Fixed:   "a line of the processor's whose id is no UUID makes no sense: it is a difference by itself",
		Edits: []Edit{
			{"services/payments/statements.go", ` || st.uuids && uuid.Validate(l.ID) != nil`, ``},
			{"services/payments/statements.go", "\t\"github.com/google/uuid\"\n", ``},
		},
		Package: "./services/payments", Test: "TestReconcile_UnreadableLineIsADifference",
	},
	{
		ID: "unreadable-line-hides-the-statement", Date: "2026-11-29",
		FoundBy: "lines of a report with a zero byte, an amount that is a word, one near the largest int64, and an id of 100,000 letters",
		Broke:   "a page was decoded as one, so one such line kept the whole statement from being compared; those that could be decoded and not stored ended every reconciliation with an error",
		Fixed:   "lines are decoded and checked one by one; one that makes no sense is a difference by itself",
		Edits: []Edit{{"services/payments/statements.go", `err != nil || !l.readable() ||`,
			`err != nil { return nil, "", err } else if`}},
		Package: "./services/payments", Test: "TestReconcile_UnreadableLineIsADifference",
	},
	{
		ID: "last-of-two-names-counts", Date: "2026-11-29",
		FoundBy: "a product with its price twice, the second without a currency",
		Broke:   "of two equal names in a body the last counted, field by field: 999.00 became 0.01. A gateway that looks at the request may see the first",
		Fixed:   "one decoder for all endpoints, encoding/json v2, refuses a name that stands twice",
		Edits: []Edit{{"shared/platform/web/bind.go", `json.RejectUnknownMembers(true)`,
			`json.RejectUnknownMembers(true), jsontext.AllowDuplicateNames(true)`}},
		Package: "./shared/platform/web", Test: "TestBind_NamesTheFieldOfABadBody",
	},
	{
		ID: "removed-merchant-keeps-its-key", Date: "2026-11-29",
		FoundBy: "a merchant that was taken out of MERCHANTS",
		Broke:   "keys were added and replaced at the start, and never taken away: a revoked key went on working",
		Fixed:   "the keys in the database are made those of the configuration, in one transaction",
		Edits:   []Edit{{"shared/platform/web/auth.go", "		b.Queue(`DELETE FROM merchant_keys`)\n", ""}},
		Package: "./shared/platform/web", Test: "TestSyncAPIKeys_TheKeysAreThoseOfTheConfiguration",
	},
	{
		ID: "stop-without-an-end", Date: "2026-11-29",
		FoundBy: "SIGTERM while PostgreSQL was paused",
		Broke:   "closing the pool waited for a server that did not answer: 75 seconds, and the orchestrator kills after ten",
		Fixed:   "a process that has not stopped after nine seconds ends as in a crash",
		Edits:   []Edit{{"shared/platform/process/process.go", `		time.Sleep(stopTimeout)`, `		time.Sleep(8 * stopTimeout)`}},
		Package: "./shared/platform/process", Test: "TestMain_StopEndsWhateverHangs",
	},
	{
		ID: "stricter-than-the-record", Date: "2026-11-29",
		FoundBy:   "a retry, after a deploy, of an order with a field that was no longer taken",
		Broke:     "the body was validated before its key was looked up: the client of an accepted order got 422 and no id",
		Invariant: "same-answer",
		Fixed:     "the look-up compares the body as it was sent; only a new request is validated",
		Edits: []Edit{{"services/orders/accept.go", `	in, invalid := web.Decode[newOrder](body)
`, `	in, invalid := web.Decode[newOrder](body)
	if invalid != nil {
		return invalid
	}
`}},
		Package: "./services/orders", Test: "TestAccept_RetryOfAnAcceptedOrderAfterADeploy",
	},
	{
		ID: "index-built-while-replicas-start", Date: "2026-11-29",
		FoundBy: "the first migration that builds an index CONCURRENTLY, and four replicas that start together",
		Broke:   "the build waits for every statement that is under way, also for those of the replicas that waited for the migrations' lock, and they for the build: none of them started",
		Fixed:   "a replica looks for the lock again and again, and no statement of its waits",
		Edits: []Edit{{"shared/platform/postgres/migrate/migrate.go", `SELECT pg_try_advisory_lock($1)`,
			`SELECT true FROM pg_advisory_lock($1)`}},
		Package: "./shared/platform/postgres/migrate", Test: "TestUp_ReplicasThatStartTogetherBuildAnIndexConcurrently",
	},
	{
		ID: "latin-1-makes-two-customers-one", Date: "2026-11-29",
		FoundBy: "two orders under one key, for the customers Jos\\xe9 and Jos\\xe8",
		Broke:   "a body that is not UTF-8 was taken, each wrong byte as U+FFFD: the second order was answered with the first, for another customer",
		Fixed:   "a body that is not UTF-8 is refused, in the one place that reads bodies",
		Edits: []Edit{
			{"shared/platform/web/bind.go", `if !utf8.Valid(body) {`, `if false && !utf8.Valid(body) {`},
		},
		Package: "./shared/platform/web", Test: "TestBind_NamesTheFieldOfABadBody",
	},
	{
		ID: "outage-counts-as-poison", Date: "2026-11-29",
		FoundBy:   "the ledger's database away for longer than the retry delays",
		Broke:     "each message used up its tries against a database that was away: 12 innocent ones were parked, and stayed so until a person replayed them",
		Invariant: "ledger-complete",
		Fixed:     "an outage of our own database costs no try: the worker waits for its end",
		Edits: []Edit{
			{"shared/pattern/reliableretries/reliable_retries.go", `	for postgres.IsOutage(err) {`, `	for false {`},
		},
		Package: "./shared/pattern/reliableretries", Test: "TestConsumer_OutagePausesAndCostsNoTry",
	},
	{
		ID: "one-merchants-waiters-take-all", Date: "2026-11-29",
		FoundBy: "300 retries of one merchant under one key",
		Broke:   "each waited with a database connection in use: another merchant's GET took 1.1 s instead of 3 ms, and the outcome of a transfer could not be written",
		Fixed:   "each merchant has places of its own, half of the connections at most; beyond them 429",
		Edits: []Edit{
			{"services/payments/main.go", `, web.LimitMerchant(s.cfg.merchantLimit()))`, `)`},
		},
		Package: "./services/payments", Test: "TestLimitMerchant_WaitersOfOneDoNotHoldUpAnother",
	},
	{
		ID: "request-id-fills-memory", Date: "2026-11-29",
		FoundBy: "200 requests with an X-Request-Id of 1 MB",
		Broke:   "each was answered with 4 MB, by a process that grew from 45 to 752 MB",
		Fixed:   "an id of more than 128 characters, or of others than visible ones, is replaced by ours",
		Edits: []Edit{
			{"shared/platform/web/server.go", `if asked := c.Request().Header; !requestID`, `if asked := c.Request().Header; false && !requestID`},
		},
		Package: "./shared/platform/web", Test: "TestServer_RequestIDCannotBreakTheAnswer",
	},
	{
		ID: "altered-table-is-our-fault", Date: "2026-11-29",
		FoundBy: "ALTER TABLE while it serves",
		Broke:   "a statement that was prepared before was answered with 500, once for each connection and statement (0A000)",
		Fixed:   "what was not executed is executed again, on a new connection",
		Edits: []Edit{
			{"shared/platform/postgres/errors.go", ` || pgErr.Code == notSupported && pgErr.Routine == "RevalidateCachedQuery")`, `)`},
			{"shared/platform/postgres/errors.go", `
	// Among others: the plan of a prepared statement, after its table was altered.
	notSupported = "0A000"
`, ""},
		},
		Package: "./shared/platform/postgres", Test: "TestWrite_GoesOnWhenATableIsAltered",
	},
	{
		ID: "demoted-server-is-kept", Date: "2026-11-29",
		FoundBy: "a server that takes no writes any more",
		Broke:   "connections to it were kept: every write was a 500, also when there was a new primary",
		Fixed:   "all connections to a server that refuses to write are given up, and the same is tried elsewhere",
		Edits: []Edit{
			{"shared/platform/postgres/errors.go", `pgErr.Code == readOnly || `, ""},
			{"shared/platform/postgres/errors.go", `	// A write on a server that takes none.
	readOnly = "25006"

`, ""},
		},
		Package: "./shared/platform/postgres", Test: "TestWrite_LeavesAServerThatTakesNoWrites",
	},
	{
		ID: "lease-until-next-year", Date: "2026-11-29",
		FoundBy: "a lease of a process that is gone, with an end an hour away",
		Broke:   "the job stood still until then, and no check said so",
		Fixed:   "a lease that ends later than any honest one belongs to no process",
		Edits: []Edit{
			{"shared/platform/postgres/lease.go", `leases.expires_at NOT BETWEEN now() AND now() + 10 * $3::interval`, `leases.expires_at <= now()`},
		},
		Package: "./shared/platform/postgres", Test: "TestTryLease_DoesNotBelieveAnEndThatIsTooFarAway",
	},
	{
		ID: "half-a-webhook-secret", Date: "2026-11-29",
		FoundBy: "PROCESSOR_WEBHOOK_SECRET=whsec_",
		Broke:   "the service started, and took an event that was signed with nothing",
		Fixed:   "a secret of less than 24 bytes is refused at the start",
		Edits: []Edit{
			{"shared/platform/config/config.go", `|| len(secret) < 24 {`, `|| len(secret) < 0 {`},
		},
		Package: "./shared/platform/config", Test: "TestLoad_KeepsSecretsOutOfItsError",
	},
	{
		ID: "emptied-receipt-is-shown", Date: "2026-11-29",
		FoundBy:   "a receipt whose document was emptied in the store",
		Broke:     "it was served: 200, empty, to be kept for a year",
		Invariant: "no-dangling-reference",
		Fixed:     "length and digest are in the reference, and compared when it is read",
		Edits: []Edit{
			{"shared/pattern/storethenreference/store_then_reference.go", `if !strings.HasSuffix(name, seal(body)) {`, `if false && !strings.HasSuffix(name, seal(body)) {`},
		},
		Package: "./shared/pattern/storethenreference", Test: "TestGet_RefusesWhatIsNotTheDocumentThatWasStored",
	},
	{
		ID: "forged-return-of-a-payout", Date: "2026-11-29",
		FoundBy: "a message ledger.payout-returned that nothing stands behind",
		Broke:   "the ledger believed it: a balance of 940.79 became 50,940.79, and was paid out",
		Fixed:   "the end of a payout is booked only against its beginning, of that merchant and amount",
		Edits: []Edit{
			{"services/ledger/payout.go", `	if err == nil && !begun {`, `	if err == nil && !begun && false {`},
		},
		Package: "./services/ledger", Test: "TestReceive_AForgedMessageMovesNothing",
	},
	{
		ID: "merchant-makes-us-look-at-all-of-time", Date: "2026-11-29",
		FoundBy: "POST /v1/reconciliations with since 0001-01-01, by a merchant",
		Broke:   "the platform compared all of its past, for each merchant that asked",
		Fixed:   "a merchant's since is bounded by the overlap of ordinary runs",
		Edits: []Edit{
			{"services/payments/reconciliation_api.go", `web.MerchantID(c) != "" && in.Since`, `web.MerchantID(c) == "-" && in.Since`},
		},
		Package: "./services/payments", Test: "TestCreateReconciliation_BoundsSinceForMerchants",
	},
	{
		ID: "confirmed-and-sent-again", Date: "2026-11-29",
		FoundBy: "a reading of what the relay repeats when the broker is slow",
		Broke:   "the first message without a confirm ended the wait: those behind it that the broker had confirmed were sent again, up to 499 of them, each time",
		Fixed:   "what has been confirmed by the end of the time counts, wherever it stands",
		Edits: []Edit{
			{"shared/platform/rabbit/publisher.go", `		case <-ctx.Done():
		}
		confirmed[i] = c.Acked()`, `		case <-ctx.Done():
			return ErrUnconfirmed
		}
		confirmed[i] = c.Acked()`},
		},
		Package: "./shared/platform/rabbit", Test: "TestAwait_CountsWhatIsConfirmedBehindTheFirstThatIsNot",
	},
	{
		ID: "taken-over-without-end", Date: "2026-11-29",
		FoundBy: "three relays whose broker takes longer to confirm than OUTBOX_TAKEOVER",
		Broke:   "each took over what another had on its way, and none could delete a message that it had had confirmed: they were published in turn without end",
		Fixed:   "what is confirmed is deleted, also when its row has another writer by then",
		Edits: []Edit{
			{"shared/pattern/outbox/relay.go", `deleted < len(confirmed) {`, `deleted < 0 {`},
		},
		Package: "./shared/pattern/outbox", Test: "TestTakeover_AConfirmedMessageIsNotPublishedWithoutEnd",
	},
	{
		ID: "broken-connection-is-a-refusal", Date: "2026-11-29",
		FoundBy: "a connection that breaks between a publish and its confirm",
		Broke:   "the library answers \"refused\" for what was open then; it was believed, and the messages were postponed for as long as they had waited, up to a minute",
		Fixed:   "a refusal on a channel that is closed is unknown: the messages are sent again at once",
		Edits: []Edit{
			{"shared/platform/rabbit/publisher.go", `			case ch.IsClosed(): //`, `			case false: //`},
		},
		Package: "./shared/platform/rabbit", Test: "TestPublisher_WhatWasOnItsWayWhenTheConnectionBrokeIsNotRefused",
	},
	{
		ID: "refund-from-the-future", Date: "2026-11-29",
		FoundBy:   "a refund whose row is dated a year ahead, and whose answer was lost",
		Broke:     "its key counted as remembered for a year more than the processor keeps it: asked again, the processor would give the money back a second time",
		Invariant: "refund-bounded",
		Fixed:     "a row that is dated ahead has no known age: the refund is looked up, and when there is none, a person must look",
		Edits: []Edit{
			{"services/payments/forgotten.go", ` || s.datedAhead(first)`, ""},
		},
		Package: "./services/payments", Test: "TestRefund_OfARowFromTheFutureIsLookedUp",
	},
}
