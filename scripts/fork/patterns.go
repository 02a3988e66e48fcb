package main

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// patterns that can be left behind although services use them: nothing else stands on
// them, and what is lost without them is lost for all that they do, not at one place.
var patterns = map[string]part{
	"garbage-collection": {
		files: []string{"services/orders/garbage.go", "services/payments/garbage.go", "services/payments/garbage_test.go", "services/ledger/garbage.go"},
		with:  whole,
		names: map[string][]string{
			"services/orders":   {"collector", "GarbageEvery", "InboxRetention", "CallbackRetention"},
			"services/payments": {"collector", "GarbageEvery", "InboxRetention", "receiptsRule", "sweepReceipts"},
			"services/ledger":   {"collector", "GarbageEvery", "InboxRetention"},
		},
		words: map[string][]word{
			architecture: {
				{", garbage |\n| payments", " |\n| payments"}, {", garbage |\n| ledger", " |\n| ledger"}, {", garbage |\n\n", " |\n\n"},
			},
			runbook: {{" Not when it has been parked for longer than `INBOX_RETENTION` (a month): the inbox would no longer know that it was handled", ""}},
		},
	},
	"reconciliation": {
		files: []string{
			"services/payments/reconcile.go", "services/payments/reconcile_test.go", "services/payments/reconciliation_api.go",
			"services/payments/statements.go", "services/payments/garbage_test.go", "docs/decisions/0009-",
		},
		with: whole,
		names: map[string][]string{"services/payments": {
			"reconciler", "createReconciliation", "getReconciliation", "ReconcileEvery", "ReconcileOverlap", "ReconcileGrace", "SettlementOverdue",
			"goneOnFrom", `"reconciliation-differences"`, `"reconciliations"`, "encode", "TestAPayoutOnTheStatementCannotBeCalledFailed",
		}},
		tables: []string{"statement_lines", "reconciliations", "reconciliation_subjects", "reconciliation_differences"},
		blocks: map[string][]string{
			"services/payments/openapi.yaml": {"  /v1/reconciliations:", "  /v1/reconciliations/{id}:", "    Reconciliation:", "    Side:"},
			runbook:                          {"| `failwell_reconciliation_differences"},
		},
		words: map[string][]word{
			"services/payments/payout.go": {
				{`
			   AND outcome = 'unknown'
			   AND NOT ($2 = 'failed' AND EXISTS (
			       SELECT FROM statement_lines
			        WHERE subject = $1
			          AND source = 'bank'))` + "`", `
			   AND outcome = 'unknown'` + "`"},
				{"// resolvePayout ends an unknown payout: reconciliation does it when the bank's\n// statement shows it, a person when the bank has told. Nothing changes when it was\n// ended before, nor when somebody says that the bank has not sent what stands on its\n// statement.\n",
					"// resolvePayout ends an unknown payout, when the bank has told. Nothing changes when it\n// was ended before.\n"},
				{"sent it, 202 when nobody knows whether it has; then reconciliation finds out.", "sent it, 202 when nobody knows whether it has; then a person asks the bank."},
			},
			"services/payments/payout_resolve.go": {{`
	case p.Outcome == payoutUnknown:
		return web.NewProblem(http.StatusConflict, "payout-on-statement", "It was sent",
			fmt.Sprintf("Payout %s stands on the bank's statement, so it was sent.", p.wireID()))`, ""}},
			"services/payments/settle.go": {{"it stays held, and\n// reconciliation shows both sides.", "it stays held."}},
			"scripts/ops/commands/payouts.go": {
				{"created_at,\n\t\t       EXISTS (SELECT FROM statement_lines WHERE subject = payouts.id AND source = 'bank')\n", "created_at\n"},
				{"\t\tOnStatement bool\n", ""},
				{"\t\tstatement := \"not on the statements so far\"\n\t\tif p.OnStatement {\n\t\t\tstatement = \"on the bank's statement; the next reconciliation ends it\"\n\t\t}\n", ""},
				{"\\tsince %s\\t%s\\n\"", "\\tsince %s\\n\""}, {"Format(time.RFC3339), statement)", "Format(time.RFC3339))"},
				{"wait for the bank's statement, or for a person", "wait for a person"},
			},
			architecture: {
				{" What the bank leaves\nopen, [reconciliation](patterns/reconciliation.md) finds out when the statement shows it. What the statement does not show is for a person.", " What the bank leaves\nopen is for a person."},
				{", reconciliations, the processor", ", the processor"}, {", reconciliation, garbage |\n| ledger", ", garbage |\n| ledger"},
			},
			runbook: {
				{"nothing at first: the next reconciliation ends it when the statement shows it. Never send it again by hand. When the statement of that day is complete and does not show it, ask the bank, and write down what it says (below)", "never send it again by hand. Ask the bank, and write down what it says (below)"},
				{"The first shows what waits, and whether a statement has it.", "The first shows what waits."},
				{" It refuses what contradicts a known outcome, and `failed` for\nwhat stands on the bank's statement.", " It refuses what contradicts a known outcome."},
				{"`POST /v1/reconciliations` shows both sides", "table `sequence_events`: compare it with the payment"},
			},
		},
	},
	"store-then-reference": {
		files: []string{"services/payments/receipt.go", "services/payments/receipt.html", "services/payments/receipt_test.go", "services/orders/receipts.go", "docs/decisions/0010-"},
		with:  whole,
		names: map[string][]string{
			"services/payments": {
				"openReceipts", "openTestReceipts", "receipts", "receiptDue", "receiptLeased", "wakeReceipts", "writeReceipts", "receiptsRule", "getReceipt", "checkReceipts",
				"shownReceipt", "ReceiptName", "ReceiptsURL", "ReceiptPoll", "ReceiptGrace",
			},
			"services/orders": {`"orders.receipts"`, "receipt", "ReceiptID"},
			"scripts/stack":   {"ReceiptsURL"},
		},
		tables: []string{"storeref_sweeps"},
		blocks: map[string][]string{
			composeFile:                      {"  receipts:"},
			"services/payments/openapi.yaml": {"  /v1/payments/{id}/receipt:", "        receipt_id:"},
			"services/orders/openapi.yaml":   {"        receipt:"},
		},
		words: map[string][]word{
			"services/payments/payment.go": {{"updated_at, receipt_name, settled_at", "updated_at, settled_at"}},
			"services/orders/order.go":     {{", o.receipt_id,", ","}},
			"services/orders/migrations/00001_orders.sql": {{`timestamptz,
    receipt_id    text        NOT NULL DEFAULT ''
`, "timestamptz\n"}},
			"services/payments/migrations/00001_payments.sql": {
				{"    receipt_name   text        NOT NULL DEFAULT '', -- of the stored document\n    receipt_at     timestamptz,\n    receipt_before timestamptz,\n", ""},
				{"    -- A reference that comes too late could meet the sweep of its document.\n    CONSTRAINT payments_receipt_in_time CHECK (receipt_at <= receipt_before),\n", ""},
				{"CREATE INDEX payments_without_receipt ON payments (updated_at) WHERE status = 'captured' AND receipt_name = '';\n", ""},
				{"CREATE INDEX payments_of_receipt ON payments (receipt_name) WHERE receipt_name <> '';\n", ""},
			},
			composeFile: {{"    volumes:\n      - receipts:/data\n", ""}},
			architecture: {
				{"After the capture, *payments* writes the [receipt](patterns/store-then-reference.md) (`orders.receipts`). At", "At"},
				{"its database, the receipts", "and its database"}, {"commands and answers, and news of receipts |", "commands and answers |"},
				{"answers of the saga and receipts,", "answers of the saga,"}, {"refunds, payouts, receipts,", "refunds, payouts,"}, {"completer, receipts,", "completer,"},
			},
		},
	},
	"callback": {
		files: []string{"services/orders/callbacks.go", "scripts/ops/commands/callbacks.go"},
		with:  whole,
		names: map[string][]string{
			"services/orders": {
				"callbacks", "news", "tell", "enqueue", "CallbackDelays", "CallbackPoll", "CallbackLease", "CallbackAllowPrivate", "CallbackRetention",
				"CallbackURL", "callbackURL",
			},
			"scripts/ops": {"Callbacks"}, "scripts/ops/commands": {"pool"},
		},
		tables: []string{"callbacks"},
		blocks: map[string][]string{
			"services/orders/openapi.yaml": {"        callback_url: {type: string, maxLength", "        callback_url: {type: string}"},
			architecture:                   {"    O -- callbacks --> M"},
			runbook:                        {"| `failwell_callback_tries_total"},
		},
		words: map[string][]word{
			"services/orders/accept.go": {
				{"total_minor, currency, callback_url, created_at)\n\t\tVALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)", "total_minor, currency, created_at)\n\t\tVALUES ($1, $2, $3, $4, $5, $6, $7, $8)"},
				{"o.Total.Currency, o.CallbackURL, o.CreatedAt)", "o.Total.Currency, o.CreatedAt)"},
			},
			"services/orders/order.go":                    {{"o.currency, o.callback_url, o.created_at", "o.currency, o.created_at"}},
			"services/orders/migrations/00001_orders.sql": {{"    callback_url  text        NOT NULL DEFAULT '',\n", ""}},
			"services/orders/openapi.yaml":                {{"watch the order, or give a `callback_url`.", "watch the order."}},
			"services/orders/outcome.go":                  {{"its stock, and the news of it.", "and its stock."}},
			"scripts/run/order.go":                        {{`,"callback_url":"'$SANDBOX_URL'/merchant/webhooks/mer_acme"`, ""}},
			architecture: {
				{"At the end of the order, the\nmerchant is told by a [callback](patterns/callback.md). When", "When"}, {", callbacks, questions", ", questions"},
			},
		},
	},
}

// decisions are what would have to be decided, if a pattern that others stand on were
// to go: for those that can go only when no service that stays uses them.
var decisions = map[string]string{
	"idempotency-key":           "what a client is to do that got no answer",
	"reject-non-identical":      "what a key means when the request under it is another one",
	"acid-transaction":          "in which order its rows are written, and who finds those that are missing after a crash",
	"atomic-read-then-write":    "who waits for whom, when two change one row",
	"idempotency-key-external":  "how to find out whether a card was charged when the answer is lost",
	"change-record":             "what a message does that comes twice",
	"response-record":           "what a retry is answered when the world has changed",
	"transactional-outbox":      "when a message is sent of what may not be committed, and who sends what was lost",
	"saga":                      "who undoes the hold and the stock of an order of which a step is refused",
	"distributed-transaction":   "how the money of a payout leaves two books together",
	"resumable-operation":       "who goes on with a refund or a payout that died half-way",
	"recovery-point":            "how far work had come that is begun again",
	"at-most-once-guard":        "whether a bank that takes no keys may be asked a second time",
	"idempotency-key-lock":      "which of two requests under one key does the work",
	"completer":                 "who finishes what its client has given up",
	"io-inside-transaction":     "who may wait for somebody else while a transaction is open (it is a mistake, which is refused here)",
	"reliable-retries":          "what becomes of a message that cannot be handled",
	"single-use-token-recovery": "what becomes of an order whose card token is used up when we die",
	"out-of-order-messages":     "what to do with news of something that we have not recorded yet",
	"reject-duplicate":          "what a retry is told instead of the first answer (it is a mistake, which is avoided here)",
}

var patternMarker = regexp.MustCompile(`^\s*// Pattern: ([a-z0-9-]+)`)

// uses are the places of a pattern's use in the files that stay, as they are before
// anything is cut out of them: in the services, or else in what they share.
func uses(all, kept map[string]string, id string) (places []string) {
	for _, begin := range []string{"services/", "shared/"} {
		for _, file := range slices.Sorted(maps.Keys(kept)) {
			if !strings.HasPrefix(file, begin) || !isCode(file) {
				continue
			}
			line := 0
			for text := range strings.Lines(all[file]) {
				line++
				if m := patternMarker.FindStringSubmatch(text); m != nil && m[1] == id {
					places = append(places, fmt.Sprintf("%s:%d", file, line))
				}
			}
		}
		if len(places) > 0 {
			return places
		}
	}
	return nil
}

// refused says why a pattern cannot be left behind: it is used where the work needs it.
func refused(all, kept map[string]string, without []string) error {
	for _, id := range without {
		question, ok := decisions[id]
		if !ok {
			continue
		}
		if places := uses(all, kept, id); len(places) > 0 {
			more := ""
			if len(places) > 1 {
				more = fmt.Sprintf(" and %d more", len(places)-1)
			}
			return fmt.Errorf("WITHOUT=%s: %s stands on it (%s%s). To be decided first: %s", id, path.Base(path.Dir(places[0])), places[0], more, question)
		}
	}
	return nil
}
