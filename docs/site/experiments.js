// Written by: go run ./scripts/catalogue generate
const experiments = [
 {
  "id": "acid-transaction",
  "says": "An order and its stock are written one after the other.",
  "fault": "orders is killed after its first commit; the client sends the same request again",
  "ask": [
   {
    "with": false,
    "text": "The order is committed; its lines and its stock, which are written next, are not. Orders is started again. How does the order end?",
    "choices": [
     "pending",
     "confirmed",
     "cancelled"
    ],
    "answer": "confirmed",
    "why": "The order with its command is whole enough for every other service: the card is charged."
   },
   {
    "with": false,
    "text": "The client has no answer, and sends the same request again, with the same idempotency key. How many mugs are taken from the shelf in the end?",
    "choices": [
     "0",
     "1",
     "2"
    ],
    "answer": "0",
    "why": "The key and its answer were in the first transaction. So the retry gets that answer, and orders does nothing. No row says that the second transaction is missing."
   }
  ],
  "edit": "--- a/services/orders/accept.go\n+++ b/services/orders/accept.go\n@@\n \t\trequest.Record(b, response)\n \t\to.insert(b)\n \t\tsaga.Insert(ctx, b, o.ID, begin, s.cfg.SagaStepTimeout)\n \t\tcommand.Append(b)\n-\t\t// The stock goes last: all buyers of a product wait for its row, so it is locked\n-\t\t// as late as possible.\n-\t\treserveAndInsertLines(b, o)\n \t})\n+\tif err == nil {\n+\t\terr = s.writer.Write(ctx, func(b *pgx.Batch) { reserveAndInsertLines(b, o) })\n+\t}\n \tswitch {\n \tcase idempotency.IsDuplicate(err), isNotReserved(err):\n \t\treturn idempotency.Recorded{}, postgres.ErrStale\n \tcase idempotency.IsInUse(err):\n",
  "without": {
   "good": false,
   "says": "paid by the customer: 12.50; taken from the shelf for it: 0, not 1"
  },
  "with": {
   "good": true,
   "says": "paid by the customer: 12.50; taken from the shelf for it: 1"
  }
 },
 {
  "id": "atomic-read-then-write",
  "says": "Many buyers want the last one at the same moment.",
  "fault": "all of them have read the stock before the first of them writes",
  "ask": [
   {
    "with": false,
    "text": "Twenty buyers read: 1 available. Each checks that 1 is enough, and then subtracts 1 (SET available = available - 1). No constraint limits the column. What does the row say in the end?",
    "choices": [
     "1",
     "0",
     "-19"
    ],
    "answer": "-19",
    "why": "No subtraction is lost: each one waits for the row and works on what is there. The decisions are wrong: all twenty rest on the 1 that was read before."
   },
   {
    "with": true,
    "text": "The same twenty subtract 1, and the column has a CHECK (available >= 0). How many are sold?",
    "choices": [
     "0",
     "1",
     "20"
    ],
    "answer": "1",
    "why": "The second subtraction would make -1. The constraint is checked under the row's lock, on the value that would be written."
   }
  ],
  "edit": "--- a/services/orders/migrations/00001_orders.sql\n+++ b/services/orders/migrations/00001_orders.sql\n@@\n     version     bigint  NOT NULL DEFAULT 1,\n     PRIMARY KEY (merchant_id, sku),\n \n-    -- Two buyers of the last unit both subtract; this refuses the second.\n-    CONSTRAINT products_not_oversold CHECK (available >= 0),\n     CONSTRAINT products_conserved CHECK (initial = available + reserved + sold)\n ) WITH (fillfactor = 70);\n \n",
  "without": {
   "good": false,
   "says": "sold of the one on the shelf: 20, not 1"
  },
  "with": {
   "good": true,
   "says": "sold of the one on the shelf: 1"
  }
 },
 {
  "id": "idempotency-key",
  "says": "The answer to an order is lost; the client sends it again.",
  "fault": "orders is killed after its commit, before the answer; the client retries",
  "points": [
   "orders.accept.after-commit"
  ],
  "ask": [
   {
    "with": false,
    "text": "The client wants one mug, has no answer, and sends the same request again. How many orders are placed?",
    "choices": [
     "0",
     "1",
     "2"
    ],
    "answer": "2",
    "why": "The order was committed before the process died. To the server the second request is another customer's."
   },
   {
    "with": false,
    "text": "The id of the first order has reached no client. How does that order end?",
    "choices": [
     "pending",
     "confirmed",
     "cancelled"
    ],
    "answer": "confirmed",
    "why": "What is committed goes on without its client: the card is charged, and the client knows of the second order only."
   },
   {
    "with": true,
    "text": "With the same key both times, what is the retry answered with?",
    "choices": [
     "202",
     "409",
     "422"
    ],
    "answer": "202",
    "why": "The key is known, so the retry gets the answer of the first request, and not an error."
   }
  ],
  "edit": "--- a/shared/pattern/idempotency/key.go\n+++ b/shared/pattern/idempotency/key.go\n@@\n \t\"net/http\"\n \t\"strings\"\n \t\"time\"\n \n+\t\"github.com/google/uuid\"\n+\n \t\"example.com/failwell/shared/platform/problem\"\n )\n \n // Schema creates the table of this package. Copy it into a migration.\n@@\n \tvalues := r.Header.Values(HeaderKey)\n \tif len(values) == 0 {\n \t\treturn Request{}, errKeyRequired\n \t}\n-\tkey, ok := parseKey(values[0])\n+\t_, ok := parseKey(values[0])\n \tif !ok || len(values) > 1 {\n \t\treturn Request{}, errKeyInvalid\n \t}\n \tfingerprint, err := fingerprint(r.Method, r.URL.Path, body)\n@@\n \tif err != nil {\n \t\treturn Request{}, problem.New(http.StatusBadRequest, \"malformed-json\", \"Malformed JSON\", err.Error())\n \t}\n-\treturn Request{Merchant: merchant, Operation: operation, Key: key, Fingerprint: fingerprint, Retention: retention}, nil\n+\treturn Request{Merchant: merchant, Operation: operation, Key: uuid.NewString(), Fingerprint: fingerprint, Retention: retention}, nil\n }\n \n // parseKey reads a structured field string (\"…\" with \\\" and \\\\ escaped) or a bare\n // token. `\"abc\"` and `abc` name the same request: clients differ in whether they\n",
  "without": {
   "good": false,
   "says": "orders placed: 2, not 1"
  },
  "with": {
   "good": true,
   "says": "orders placed: 1"
  }
 },
 {
  "id": "response-record",
  "says": "The world changes between the first answer and the retry.",
  "fault": "the order is cancelled in between; the client retries its POST",
  "ask": [
   {
    "with": true,
    "text": "The first answer said: pending. Then the card was declined, and the order is cancelled. The client retries its POST. What does it read as the status of the order?",
    "choices": [
     "pending",
     "confirmed",
     "cancelled"
    ],
    "answer": "pending",
    "why": "The retry gets the very bytes of the first answer: one request, one answer. What the order is now, GET tells."
   },
   {
    "with": false,
    "text": "The server keeps the key and not the answer: it looks the order up and shows it. With which status code, and which status of the order, is the retry answered?",
    "choices": [
     "202, pending",
     "202, cancelled",
     "409, cancelled"
    ],
    "answer": "202, cancelled",
    "why": "The code says that the request was accepted, and the body that the order is cancelled. The client's first answer, had it arrived, was another one."
   }
  ],
  "edit": "--- a/services/orders/accept.go\n+++ b/services/orders/accept.go\n@@\n \n import (\n \t\"context\"\n \t\"net/http\"\n+\t\"strings\"\n \t\"time\"\n \n \t\"github.com/google/uuid\"\n \t\"github.com/jackc/pgx/v5\"\n@@\n \t})\n \tif err != nil {\n \t\treturn err\n \t}\n-\treturn answer.Answer(c.Response())\n+\to, err := s.find(ctx, merchant, strings.TrimPrefix(answer.Header[echo.HeaderLocation], \"/v1/orders/\"))\n+\tif err != nil {\n+\t\treturn err\n+\t}\n+\treturn c.JSON(http.StatusAccepted, o.view())\n }\n \n // place writes the order with all that belongs to it. ErrStale means that a constraint\n // refused the write. Reading again shows the reason: another request committed the same\n",
  "without": {
   "good": false,
   "says": "different answers to one request: 2, not 1"
  },
  "with": {
   "good": true,
   "says": "different answers to one request: 1"
  }
 },
 {
  "id": "reject-non-identical",
  "says": "A client with a bug sends another basket under a key that it has used.",
  "fault": "one key, two baskets",
  "ask": [
   {
    "with": false,
    "text": "A mug under a key, then a poster under the same key. The server compares nothing but the key. What is the second request answered with?",
    "choices": [
     "202",
     "409",
     "422"
    ],
    "answer": "202",
    "why": "The key is known, so the second request gets the recorded answer of the first one: accepted, with the order of the mug."
   },
   {
    "with": true,
    "text": "And with the comparison of the fingerprints?",
    "choices": [
     "202",
     "409",
     "422"
    ],
    "answer": "422",
    "why": "The key stands for another request. Neither answer to give is right, so the client is told of its bug."
   },
   {
    "with": true,
    "text": "After that, the client sends the request for the mug once more, byte for byte, under the same key. What is it answered with?",
    "choices": [
     "202",
     "409",
     "422"
    ],
    "answer": "202",
    "why": "A refusal writes nothing. The key still has the fingerprint and the answer of its first request."
   }
  ],
  "edit": "--- a/shared/pattern/idempotency/response.go\n+++ b/shared/pattern/idempotency/response.go\n@@\n package idempotency\n \n import (\n-\t\"bytes\"\n \t\"context\"\n \t\"encoding/json\"\n \t\"errors\"\n \t\"net/http\"\n@@\n \t\t\tanswer := Recorded{Exists: true, replayed: true}\n \t\t\tif err := rows.Scan(&fingerprint, &answer.Status, &answer.Header, &answer.Body); err != nil {\n \t\t\t\treturn err\n \t\t\t}\n-\t\t\tif !bytes.Equal(fingerprint, r.Fingerprint[:]) {\n-\t\t\t\treturn ErrKeyReused\n-\t\t\t}\n \t\t\t*found = answer\n \t\t}\n \t\treturn rows.Err()\n \t})\n",
  "without": {
   "good": false,
   "says": "accepted and never ordered: 1, not 0"
  },
  "with": {
   "good": true,
   "says": "accepted and never ordered: 0"
  }
 },
 {
  "id": "reject-duplicate",
  "says": "A retry is told that it is a duplicate.",
  "fault": "orders is killed after its commit, before the answer; the client retries with its key",
  "ask": [
   {
    "with": false,
    "text": "The order is placed, its answer lost. The retry is a duplicate, and is told so. What does the client have in the end?",
    "choices": [
     "the order's id",
     "an error and no id"
    ],
    "answer": "an error and no id",
    "why": "The refusal is true and of no use: the client cannot tell it from \"somebody else has used your key\"."
   }
  ],
  "edit": "--- a/services/orders/accept.go\n+++ b/services/orders/accept.go\n@@\n \t\tswitch {\n \t\tcase err != nil:\n \t\t\treturn err\n \t\tcase answer.Exists:\n-\t\t\treturn nil // even if the order would be refused today\n+\t\t\treturn web.NewProblem(http.StatusConflict, \"duplicate-order\", \"Duplicate\", \"This order was placed before.\")\n \t\tcase invalid != nil:\n \t\t\treturn invalid\n \t\t}\n \t\tanswer, err = s.place(ctx, request, merchant, in, products)\n",
  "without": {
   "good": false,
   "says": "the retry is answered with: 409, not 202"
  },
  "with": {
   "good": true,
   "says": "the retry is answered with: 202"
  }
 },
 {
  "id": "transactional-outbox",
  "says": "A service commits an order, and then tells the next service.",
  "fault": "orders is killed after its commit, before its message is published; the client gives up",
  "ask": [
   {
    "with": false,
    "text": "The order is committed, and orders is killed before the line that publishes the command to payments. Orders is started again, and no client asks again. What is the order eight seconds later?",
    "choices": [
     "pending",
     "confirmed",
     "cancelled"
    ],
    "answer": "pending",
    "why": "Nothing in the database says that a message is owed, so a restart has nothing to go by. Payments has never heard of the order."
   },
   {
    "with": true,
    "text": "The message was committed as a row beside the order. What is the order now?",
    "choices": [
     "pending",
     "confirmed",
     "cancelled"
    ],
    "answer": "confirmed",
    "why": "The relay of the restarted process finds the row and publishes it; the client plays no part in this."
   },
   {
    "with": true,
    "text": "An order takes three commands: authorise, post the sale, capture. How many of their rows are in the outbox when it is finished?",
    "choices": [
     "0",
     "1",
     "3"
    ],
    "answer": "0",
    "why": "The relay deletes what the broker has confirmed. The outbox is no history, and an empty one means that nothing is owed."
   }
  ],
  "edit": "--- a/services/orders/accept.go\n+++ b/services/orders/accept.go\n@@\n \t\"github.com/labstack/echo/v4\"\n \n \t\"example.com/failwell/shared/pattern/idempotency\"\n+\t\"example.com/failwell/shared/pattern/outbox\"\n \t\"example.com/failwell/shared/pattern/saga\"\n \t\"example.com/failwell/shared/platform/fault\"\n \t\"example.com/failwell/shared/platform/money\"\n \t\"example.com/failwell/shared/platform/postgres\"\n@@\n \t\trequest.Record(b, response)\n \t\to.insert(b)\n \t\tsaga.Insert(ctx, b, o.ID, begin, s.cfg.SagaStepTimeout)\n-\t\tcommand.Append(b)\n \t\t// The stock goes last: all buyers of a product wait for its row, so it is locked\n \t\t// as late as possible.\n \t\treserveAndInsertLines(b, o)\n@@\n \tcase err != nil:\n \t\treturn idempotency.Recorded{}, err\n \t}\n-\ts.relay.Wake()\n-\treturn idempotency.Fresh(response), nil\n+\t_, err = s.relay.Publisher.Publish(ctx, []outbox.Envelope{command})\n+\treturn idempotency.Fresh(response), err\n }\n \n // commit writes a batch, and passes the points at which the lab lets the process fail.\n",
  "without": {
   "good": false,
   "says": "orders that payments has heard of: 0, not 1"
  },
  "with": {
   "good": true,
   "says": "orders that payments has heard of: 1"
  }
 },
 {
  "id": "change-record",
  "says": "The broker delivers a message twice.",
  "fault": "the ledger is killed after its commit, before the acknowledgement; the message comes again",
  "points": [
   "ledger.settle.after-commit"
  ],
  "ask": [
   {
    "with": false,
    "text": "Two guards are taken away: the inbox, and the constraint that lets one cause make one entry. The ledger has booked the settlement of one mug, 12.50, and dies before it acknowledges. The message comes again. How much is booked as settled?",
    "choices": [
     "0.00",
     "12.50",
     "25.00"
    ],
    "answer": "25.00",
    "why": "The second delivery is handled like the first: nothing in the database says that its change was made. One of the two guards would have been enough."
   },
   {
    "with": false,
    "text": "The audit adds up the postings of each journal entry. How many entries do not sum to zero now?",
    "choices": [
     "0",
     "1",
     "2"
    ],
    "answer": "0",
    "why": "Both entries are right in themselves. No rule over a single entry finds this mistake."
   }
  ],
  "edit": "--- a/services/ledger/migrations/00001_ledger.sql\n+++ b/services/ledger/migrations/00001_ledger.sql\n@@\n     kind        text        NOT NULL,\n     source      text        NOT NULL,           -- what caused it: ord_…\n     reference   text        NOT NULL,           -- what else it speaks of: pay_…\n     merchant_id text        NOT NULL,\n-    created_at  timestamptz NOT NULL DEFAULT now(),\n-\n-    -- The change record: what caused an entry causes it once.\n-    CONSTRAINT entries_once UNIQUE (source, kind)\n+    created_at  timestamptz NOT NULL DEFAULT now()\n );\n \n CREATE INDEX entries_of_reference ON entries (reference);\n \n--- a/services/ledger/settle.go\n+++ b/services/ledger/settle.go\n@@\n \te.ID = uuid.Must(uuid.NewV7())\n \terr := e.bookWith(func(book func(b *pgx.Batch)) error {\n \t\treturn s.writer.Write(ctx, func(b *pgx.Batch) {\n-\t\t\tmessage.Record(b)\n \t\t\tbook(b)\n \t\t})\n \t})\n",
  "without": {
   "good": false,
   "says": "booked as settled: 25.00, not 12.50"
  },
  "with": {
   "good": true,
   "says": "booked as settled: 12.50"
  }
 },
 {
  "id": "reliable-retries",
  "says": "A consumer cannot handle a message at the moment.",
  "fault": "the ledger's handler of a settlement fails once, before its commit",
  "ask": [
   {
    "with": false,
    "text": "The message fails once; the consumer writes a line to its log and takes the next one. How much is booked as settled for the mug of 12.50?",
    "choices": [
     "0.00",
     "12.50"
    ],
    "answer": "0.00",
    "why": "No service waits for a reply to a settlement, so no completer sends it again. (The hourly reconciliation would; here it is off.)"
   }
  ],
  "edit": "--- a/shared/pattern/reliableretries/reliable_retries.go\n+++ b/shared/pattern/reliableretries/reliable_retries.go\n@@\n \t\treturn nil\n \t}\n \n \tlog = log.With(\"error\", err)\n+\tif err != nil {\n+\t\tlog.ErrorContext(ctx, \"message dropped\")\n+\t\tc.finish(ctx, d, \"dropped\")\n+\t\treturn err\n+\t}\n \tnext, outcome := c.Queue+\".dead\", \"parked\"\n \tvar delay time.Duration\n \tswitch {\n \tcase postgres.IsBusy(err) && len(c.Delays) > 0:\n",
  "without": {
   "good": false,
   "says": "booked as settled: 0.00, not 12.50"
  },
  "with": {
   "good": true,
   "says": "booked as settled: 12.50"
  }
 },
 {
  "id": "out-of-order-messages",
  "says": "News of the settlement overtakes our own record of the capture.",
  "fault": "payments is slow to record the capture; the processor's webhook arrives before that",
  "ask": [
   {
    "with": false,
    "text": "The webhook says: settled. The payment is not captured yet in our books, so there is nothing to settle, and the webhook is acknowledged. How much is booked as settled in the end?",
    "choices": [
     "0.00",
     "12.50"
    ],
    "answer": "0.00",
    "why": "The sender has its 2xx and never sends it again. The merchant's money stays pending until reconciliation finds it; in the lab that runs only when it is asked to."
   }
  ],
  "edit": "--- a/services/payments/settle.go\n+++ b/services/payments/settle.go\n@@\n \tp, err := pgx.CollectExactlyOneRow(rows, scanPayment)\n \tswitch {\n \tcase errors.Is(err, pgx.ErrNoRows), err == nil && p.Status != captured:\n-\t\treturn outoforder.ErrNotYet // held, and reported when the payment stays unknown\n+\t\treturn nil // nothing to settle\n \tcase err != nil:\n \t\treturn err\n \t}\n",
  "without": {
   "good": false,
   "says": "booked as settled: 0.00, not 12.50"
  },
  "with": {
   "good": true,
   "says": "booked as settled: 12.50"
  }
 },
 {
  "id": "idempotency-key-external",
  "says": "The card processor does the work and its answer is lost.",
  "fault": "the answer to the authorisation is lost; payments asks again",
  "points": [
   "payments.authorise.after-processor"
  ],
  "ask": [
   {
    "with": false,
    "text": "Payments cannot know whether the first call did anything, and repeats it. How much is held or taken for the one mug of 12.50?",
    "choices": [
     "0.00",
     "12.50",
     "25.00"
    ],
    "answer": "25.00",
    "why": "To the processor, two calls without a key are two customers."
   },
   {
    "with": false,
    "text": "How does the order end, with the second charge?",
    "choices": [
     "pending",
     "confirmed",
     "cancelled"
    ],
    "answer": "confirmed",
    "why": "Nothing has failed. The merchant sees a good order; the customer sees two lines on the statement."
   }
  ],
  "edit": "--- a/services/payments/processor.go\n+++ b/services/payments/processor.go\n@@\n // indefinite, whatever its status: a 401 means that our key is wrong and a 404 that our\n // address is, and neither says anything about the customer's card.\n func (p processor) call(ctx context.Context, method, path, key string, in, out any, definite ...string) error {\n \tstatus, answer, err := web.Call(ctx, p.client, web.Request{\n-\t\tMethod: method, URL: p.url + path, Bearer: p.key, IdempotencyKey: key, In: in, Out: out,\n+\t\tMethod: method, URL: p.url + path, Bearer: p.key, In: in, Out: out,\n \t})\n \tif err != nil {\n \t\treturn fmt.Errorf(\"processor: %w\", err)\n \t}\n",
  "without": {
   "good": false,
   "says": "held or taken on the customer's card: 25.00, not 12.50"
  },
  "with": {
   "good": true,
   "says": "held or taken on the customer's card: 12.50"
  }
 },
 {
  "id": "single-use-token-recovery",
  "says": "A card token can be redeemed once, and the answer to our redemption is lost.",
  "fault": "the answer to the redemption is lost; payments tries again",
  "ask": [
   {
    "with": false,
    "text": "The processor has redeemed the token and its answer was lost. The second try is told: already used. How does the order end?",
    "choices": [
     "pending",
     "confirmed",
     "cancelled"
    ],
    "answer": "cancelled",
    "why": "\"Already used\" sounds definite. The one who used it was payments itself."
   },
   {
    "with": true,
    "text": "And when payments then asks who has used it?",
    "choices": [
     "pending",
     "confirmed",
     "cancelled"
    ],
    "answer": "confirmed",
    "why": "The token was redeemed under this payment's reference: payments goes on with what it has bought."
   }
  ],
  "edit": "--- a/services/payments/authorise.go\n+++ b/services/payments/authorise.go\n@@\n //\n // Pattern: single-use-token-recovery\n func (s *service) redeem(ctx context.Context, cmd command) (method string, err error) {\n-\tmethod, err = s.processor.redeem(ctx, cmd.PaymentToken, cmd.PaymentID)\n-\trefused, ok := errors.AsType[*refusal](err)\n-\tif !ok || refused.code != \"token_already_used\" {\n-\t\treturn method, err\n-\t}\n-\tif err := fault.Point(ctx, fault.PaymentsRedeemBeforeRecovery); err != nil {\n-\t\treturn \"\", err\n-\t}\n-\tmethod, found, err := s.processor.redeemedFor(ctx, cmd.PaymentID)\n-\tswitch {\n-\tcase err != nil:\n-\t\treturn \"\", err\n-\tcase !found:\n-\t\treturn \"\", refused\n-\t}\n-\treturn method, nil\n+\treturn s.processor.redeem(ctx, cmd.PaymentToken, cmd.PaymentID)\n }\n",
  "without": {
   "good": false,
   "says": "the order: cancelled, not confirmed"
  },
  "with": {
   "good": true,
   "says": "the order: confirmed"
  }
 },
 {
  "id": "io-inside-transaction",
  "says": "The processor is called while a database transaction is open, and the processor is slow.",
  "fault": "the processor takes almost two seconds for each authorisation; forty orders come in",
  "ask": [
   {
    "with": false,
    "text": "Forty orders come in. The pool has 16 connections, so 16 authorisations wait for the processor, each inside a transaction. Of ten clients who only want to read a payment, how many are answered within half a second?",
    "choices": [
     "0",
     "10"
    ],
    "answer": "0",
    "why": "Each waiting call keeps a connection. The pool is empty, and what is wrong looks like a slow database."
   }
  ],
  "edit": "--- a/services/payments/authorise.go\n+++ b/services/payments/authorise.go\n@@\n \t\t}\n \t\treturn holds[0].ID, nil\n \t}\n-\tcharge, err := s.processor.authorise(ctx, p.wireID()+\":authorise\", p)\n-\treturn charge.ID, err\n+\terr = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {\n+\t\tif _, err := tx.Exec(ctx, `SELECT FROM payments WHERE id = $1 FOR UPDATE`, p.ID); err != nil {\n+\t\t\treturn err\n+\t\t}\n+\t\tcharge, err := s.processor.authorise(ctx, p.wireID()+\":authorise\", p)\n+\t\tchargeID = charge.ID\n+\t\treturn err\n+\t})\n+\treturn chargeID, err\n }\n \n // redeem turns the card token into a payment method. A token can be redeemed\n",
  "without": {
   "good": false,
   "says": "reads of payments answered within half a second, of 10: 0, not 10"
  },
  "with": {
   "good": true,
   "says": "reads of payments answered within half a second, of 10: 10"
  }
 },
 {
  "id": "idempotency-key-lock",
  "says": "The client retries while its first request is still at work.",
  "fault": "the processor is slow; the same refund comes twice at the same moment",
  "ask": [
   {
    "with": false,
    "text": "The first request waits for the processor when the second comes, with the same key. How many calls does the processor get?",
    "choices": [
     "1",
     "2"
    ],
    "answer": "2",
    "why": "Both find the refund at its first point. What keeps it at one refund is the processor's memory of the key, another pattern."
   },
   {
    "with": true,
    "text": "With the lock, what is the second request answered with, when it has waited its time?",
    "choices": [
     "201",
     "409",
     "422"
    ],
    "answer": "409",
    "why": "409 with Retry-After: nothing was refused, somebody is at it. The client comes back for the answer."
   }
  ],
  "edit": "--- a/shared/pattern/idempotency/lock.go\n+++ b/shared/pattern/idempotency/lock.go\n@@\n \t\tcase live && now.Status != nil:\n \t\t\tanswer = Recorded{Response: Response{Status: *now.Status, Header: now.Header, Body: now.Body}, Exists: true, replayed: true}\n \t\t\treturn nil\n-\t\tcase now.Locked:\n-\t\t\treturn ErrKeyInUse\n \t\tcase now.OperationID != nil && now.Status == nil:\n \t\t\tlock.OperationID, lock.Traceparent = *now.OperationID, now.Traceparent\n \t\tdefault: // new, or a finished one that has expired\n",
  "without": {
   "good": false,
   "says": "calls to the processor: 2, not 1; given back on the card: 5.00"
  },
  "with": {
   "good": true,
   "says": "calls to the processor: 1; given back on the card: 5.00"
  }
 },
 {
  "id": "recovery-point",
  "says": "Work of several steps is begun again after a crash, and the others have forgotten us.",
  "fault": "payments is killed when the books have the refund; meanwhile the processor forgets its keys; the client retries",
  "ask": [
   {
    "with": false,
    "text": "The refund of 5.00 begins again at its first step. The processor's memory of our key is gone. How much is given back in all?",
    "choices": [
     "0.00",
     "5.00",
     "10.00"
    ],
    "answer": "10.00",
    "why": "A key at the other side makes a repeated step harmless for as long as the other side remembers it."
   }
  ],
  "edit": "--- a/services/payments/refund.go\n+++ b/services/payments/refund.go\n@@\n \t\t\t}\n \t\t}\n \t\t_, err := tx.Exec(ctx, `\n \t\t\tUPDATE refunds\n-\t\t\t   SET recovery_point = 'decided',\n-\t\t\t       decision       = $2,\n+\t\t\t   SET decision       = $2,\n \t\t\t       failure        = $3\n \t\t\t WHERE id = $1`,\n \t\t\tr.ID, r.Decision, r.Failure)\n \t\treturn err\n@@\n \t}\n \terr := recoverypoint.Commit(ctx, s.db, lock, fault.PaymentsRefundAfterPosted, func(ctx context.Context, tx pgx.Tx) error {\n \t\t_, err := tx.Exec(ctx, `\n \t\t\tUPDATE refunds\n-\t\t\t   SET recovery_point = 'posted'\n+\t\t\t   SET decision = decision\n \t\t\t WHERE id = $1`,\n \t\t\tr.ID)\n \t\treturn err\n \t})\n",
  "without": {
   "good": false,
   "says": "given back on the card: 10.00, not 5.00"
  },
  "with": {
   "good": true,
   "says": "given back on the card: 5.00"
  }
 },
 {
  "id": "resumable-operation",
  "says": "A refund dies half-way, and its client sends it again.",
  "fault": "payments is killed when the processor has given the money back and the books know nothing; the client retries",
  "points": [
   "payments.refund.after-processor",
   "payments.refund.after-decided"
  ],
  "ask": [
   {
    "with": false,
    "text": "The retry finds a refund that was begun before, does not go on with it, and is told that it is not finished. 5.00 are back on the card. How many refunds are finished?",
    "choices": [
     "0",
     "1"
    ],
    "answer": "0",
    "why": "Not to go on keeps the money safe and the work undone: every later try finds the same row."
   },
   {
    "with": true,
    "text": "What is the retry answered with, when it goes on from where the first try stopped?",
    "choices": [
     "201",
     "202",
     "409"
    ],
    "answer": "201",
    "why": "The retry does the two steps that are missing, and gets the answer that the first request would have got."
   }
  ],
  "edit": "--- a/services/payments/refund.go\n+++ b/services/payments/refund.go\n@@\n //\n // Pattern: recovery-point\n func (s *service) resumeRefund(ctx context.Context, lock idempotency.Lock) (idempotency.Response, error) {\n \tr, err := s.loadRefund(ctx, lock.OperationID)\n+\tif err == nil && r.Point != refundStarted {\n+\t\terr = errors.New(\"this refund was begun before\")\n+\t}\n \tfor err == nil {\n \t\tswitch {\n \t\tcase ctx.Err() != nil:\n \t\t\terr = ctx.Err() // out of time; the next run goes on from here\n",
  "without": {
   "good": false,
   "says": "given back on the card: 5.00; refunds finished: 0, not 1"
  },
  "with": {
   "good": true,
   "says": "given back on the card: 5.00; refunds finished: 1"
  }
 },
 {
  "id": "completer",
  "says": "The client of a half-way refund never comes back.",
  "fault": "payments is killed when the processor has given the money back; the client is gone",
  "ask": [
   {
    "with": false,
    "text": "A retry would go on from where it stopped. No retry comes. How many refunds are finished after twenty seconds?",
    "choices": [
     "0",
     "1"
    ],
    "answer": "0",
    "why": "The work can be resumed, and nothing resumes it."
   }
  ],
  "edit": "--- a/services/payments/main.go\n+++ b/services/payments/main.go\n@@\n \t\"github.com/prometheus/client_golang/prometheus\"\n \tstandardwebhooks \"github.com/standard-webhooks/standard-webhooks/libraries/go\"\n \n-\t\"example.com/failwell/shared/pattern/completer\"\n \t\"example.com/failwell/shared/pattern/distributedtx\"\n \t\"example.com/failwell/shared/pattern/garbagecollection\"\n@@\n-\t\"example.com/failwell/shared/pattern/idempotency\"\n \t\"example.com/failwell/shared/pattern/outbox\"\n \t\"example.com/failwell/shared/pattern/outbox/rabbitpublisher\"\n \t\"example.com/failwell/shared/pattern/outoforder\"\n@@\n \t\tWorkers: cfg.Workers, Delays: cfg.RetryDelays, Handle: s.receive, Logger: log, Metrics: registry,\n \t})\n \n-\t// Pattern: completer\n-\tfinisher := completer.New(completer.Config{\n-\t\tDB: db, Logger: log, Metrics: registry, Every: cfg.CompleterEvery, Lease: cfg.KeyLease, Grace: cfg.CompleterGrace,\n-\t\tFinish: map[string]func(context.Context, idempotency.Lock) error{\n-\t\t\ts.refunds().name: func(ctx context.Context, l idempotency.Lock) error {\n-\t\t\t\t_, err := s.resume(ctx, s.refunds(), l)\n-\t\t\t\treturn err\n-\t\t\t},\n-\t\t\ts.payouts().name: func(ctx context.Context, l idempotency.Lock) error {\n-\t\t\t\t_, err := s.resume(ctx, s.payouts(), l)\n-\t\t\t\treturn err\n-\t\t\t},\n-\t\t},\n-\t})\n \tcollector := garbagecollection.New(garbagecollection.Config{\n \t\tDB: db, Logger: log, Metrics: registry, Holder: cfg.InstanceName(), Every: cfg.GarbageEvery, Rules: s.garbageRules(),\n \t})\n@@\n \tctx, stop := context.WithCancel(ctx)\n \tdefer stop()\n \tvar background sync.WaitGroup\n-\tfor _, job := range []func(context.Context){s.relay.Run, commands.Run, s.events.Run, s.twophase.RunRecovery, finisher.Run, s.writeReceipts, s.reconciler.Run, collector.Run} {\n+\tfor _, job := range []func(context.Context){s.relay.Run, commands.Run, s.events.Run, s.twophase.RunRecovery, s.writeReceipts, s.reconciler.Run, collector.Run} {\n \t\tbackground.Go(func() { job(ctx) })\n \t}\n \terr = web.Run(ctx, s.routes(ctx, registry, broker), cfg.Common, log)\n",
  "without": {
   "good": false,
   "says": "given back on the card: 5.00; refunds finished: 0, not 1"
  },
  "with": {
   "good": true,
   "says": "given back on the card: 5.00; refunds finished: 1"
  }
 },
 {
  "id": "saga",
  "says": "The last step of an order is refused, after the others are done.",
  "fault": "the card authorises and then refuses the capture",
  "ask": [
   {
    "with": false,
    "text": "Stock is reserved, 12.50 held on the card, the sale booked; then the capture is refused, and the order is cancelled. What is still held on the card?",
    "choices": [
     "0.00",
     "12.50"
    ],
    "answer": "12.50",
    "why": "Each of the four steps was a transaction of its own, in another database. Only another transaction takes one back."
   },
   {
    "with": true,
    "text": "The same with compensations. How does the order end?",
    "choices": [
     "pending",
     "confirmed",
     "cancelled"
    ],
    "answer": "cancelled",
    "why": "The saga turns around: reverse the sale, release the hold, release the stock, and only then cancel."
   }
  ],
  "edit": "--- a/services/orders/saga.go\n+++ b/services/orders/saga.go\n@@\n // compensation, and money goes back only by a refund.\n //\n // Pattern: saga\n var orderPlan = saga.Plan{\n-\t{Participant: \"payments\", Action: \"authorise\", Compensation: \"void\"},\n-\t{Participant: \"ledger\", Action: \"post-sale\", Compensation: \"reverse-sale\"},\n+\t{Participant: \"payments\", Action: \"authorise\"},\n+\t{Participant: \"ledger\", Action: \"post-sale\"},\n \t{Participant: \"payments\", Action: \"capture\"},\n }\n \n // proceed handles a participant's reply: read where the order's saga stands, decide,\n",
  "without": {
   "good": false,
   "says": "held on the customer's card: 12.50, not 0.00; units reserved: 0"
  },
  "with": {
   "good": true,
   "says": "held on the customer's card: 0.00; units reserved: 0"
  }
 },
 {
  "id": "distributed-transaction",
  "says": "A payout must leave two books together.",
  "fault": "payments is killed when the ledger has done its half; the client gives up",
  "points": [
   "payments.payout.after-ledger-prepare",
   "twophase.after-decision"
  ],
  "ask": [
   {
    "with": false,
    "text": "The ledger commits its half at once. Then payments dies, before its own half. How many payouts does only one of the two books have, twenty seconds later?",
    "choices": [
     "0",
     "1"
    ],
    "answer": "1",
    "why": "What is committed cannot be rolled back; what was to follow may be refused, or never come."
   }
  ],
  "edit": "--- a/shared/pattern/distributedtx/participant.go\n+++ b/shared/pattern/distributedtx/participant.go\n@@\n \tif err := work(txmark.Mark(ctx), tx); err != nil {\n \t\treturn errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))\n \t}\n-\t_, err = tx.Exec(context.WithoutCancel(ctx), `PREPARE TRANSACTION '`+gid+`'`)\n-\tif code(err) == duplicateObject {\n-\t\treturn nil\n-\t}\n-\treturn err\n+\treturn tx.Commit(context.WithoutCancel(ctx))\n }\n \n // Commit carries out a prepared transaction. One that is not there any more was\n",
  "without": {
   "good": false,
   "says": "payouts that only one of two books has: 1, not 0"
  },
  "with": {
   "good": true,
   "says": "payouts that only one of two books has: 0"
  }
 },
 {
  "id": "callback",
  "says": "The merchant's endpoint is down when the order is finished.",
  "fault": "the endpoint refuses the first two tries",
  "ask": [
   {
    "with": false,
    "text": "The order is confirmed; the notification is sent once, and refused. How often is the merchant told?",
    "choices": [
     "0",
     "1",
     "3"
    ],
    "answer": "0",
    "why": "A warning in a log is all that is left of it."
   },
   {
    "with": true,
    "text": "With three tries, under how many webhook-ids?",
    "choices": [
     "1",
     "2",
     "3"
    ],
    "answer": "1",
    "why": "A merchant that got the first try after all must see that the second is the same notification."
   }
  ],
  "edit": "--- a/shared/pattern/callback/worker.go\n+++ b/shared/pattern/callback/worker.go\n@@\n \n // schedule decides what follows a failed try.\n func (w *Worker) schedule(attempts int, err error) (state string, next time.Duration) {\n-\tif errors.Is(err, errPermanent) || attempts >= len(w.Delays) {\n+\tif err != nil {\n \t\treturn \"parked\", 0\n \t}\n \tnext = w.Delays[attempts]\n",
  "without": {
   "good": false,
   "says": "times that the merchant was told: 0, not 1; webhook-ids: 1"
  },
  "with": {
   "good": true,
   "says": "times that the merchant was told: 1; webhook-ids: 1"
  }
 },
 {
  "id": "at-most-once-guard",
  "says": "A bank that takes no keys sends the money, and we die before we know.",
  "fault": "payments is killed when the bank has sent the money, before that is noted; the client retries",
  "points": [
   "payments.payout.after-bank"
  ],
  "ask": [
   {
    "with": false,
    "text": "The payout of 5.00 is in our database as \"booked\", nothing more. The client sends its request again, with its key. How much does the bank pay out in all?",
    "choices": [
     "0.00",
     "5.00",
     "10.00"
    ],
    "answer": "10.00",
    "why": "A process that finds \"booked\" must believe that the bank was not asked yet."
   },
   {
    "with": true,
    "text": "And what is the client told in the end?",
    "choices": [
     "sent",
     "failed",
     "unknown"
    ],
    "answer": "unknown",
    "why": "The guard says that somebody may have asked the bank. It does not say what came of it: that stays unknown until the bank's statement shows it."
   }
  ],
  "edit": "--- a/services/payments/payout.go\n+++ b/services/payments/payout.go\n@@\n \t\"github.com/google/uuid\"\n \t\"github.com/jackc/pgx/v5\"\n \t\"github.com/labstack/echo/v4\"\n \n-\t\"example.com/failwell/shared/pattern/atmostonce\"\n \t\"example.com/failwell/shared/pattern/idempotency\"\n \t\"example.com/failwell/shared/pattern/outbox\"\n \t\"example.com/failwell/shared/pattern/recoverypoint\"\n \t\"example.com/failwell/shared/platform/fault\"\n@@\n // whether the bank was asked, so the outcome is unknown.\n //\n // Pattern: at-most-once-guard\n func (s *service) payAtBank(ctx context.Context, lock idempotency.Lock, p *payout) error {\n-\tfirst := false\n-\terr := recoverypoint.Commit(ctx, s.db, lock, fault.PaymentsPayoutAfterGuard, func(ctx context.Context, tx pgx.Tx) (err error) {\n-\t\tfirst, err = atmostonce.Enter(ctx, tx, \"bank-transfer:\"+p.wireID())\n-\t\treturn err\n-\t})\n-\tif err != nil {\n-\t\treturn err\n-\t}\n-\tif !first {\n-\t\treturn s.decidePayout(ctx, lock, p, payoutUnknown, \"\")\n-\t}\n \t// No later run may make this call, so nothing cuts it short: not the end of our client's\n \t// request, not the stop of this process.\n \tanswer := s.bank.transfer(context.WithoutCancel(ctx), p.wireID(), \"acct_\"+p.MerchantID, p.Amount)\n \tif err := fault.Point(context.WithoutCancel(ctx), fault.PaymentsPayoutAfterBank); err != nil {\n",
  "without": {
   "good": false,
   "says": "paid out by the bank: 10.00, not 5.00"
  },
  "with": {
   "good": true,
   "says": "paid out by the bank: 5.00"
  }
 },
 {
  "id": "reconciliation",
  "says": "The bank has sent a payout, and we do not know.",
  "fault": "the bank's answer is lost",
  "ask": [
   {
    "with": false,
    "text": "The answer was lost, so our row says: unknown. The bank's statement is never fetched. Of how many payouts that were sent do we not know?",
    "choices": [
     "0",
     "1"
    ],
    "answer": "1",
    "why": "Nothing inside the system can find out. Only the other side's records tell."
   }
  ],
  "edit": "--- a/services/payments/statements.go\n+++ b/services/payments/statements.go\n@@\n \tclient := web.Client(s.cfg.CallTimeout)\n \treturn []reconciliation.Source{\n \t\t{Name: fromProcessor, Fetch: statement{s.cfg.ProcessorURL + \"/v1/report\", s.cfg.ProcessorKey, client, s.log, processorLine, true}.fetch},\n-\t\t{Name: fromBank, Fetch: statement{s.cfg.BankURL + \"/bank/statement\", \"\", client, s.log, bankLine, false}.fetch},\n \t\t{Name: fromLedger, Fetch: statement{s.cfg.LedgerURL + \"/v1/journal\", s.cfg.ServiceKey, client, s.log, ledgerLine, false}.fetch},\n \t}\n }\n",
  "without": {
   "good": false,
   "says": "payouts that the bank has sent and we do not know of: 1, not 0"
  },
  "with": {
   "good": true,
   "says": "payouts that the bank has sent and we do not know of: 0"
  }
 },
 {
  "id": "store-then-reference",
  "says": "A receipt is a row in the database and a document in a store.",
  "fault": "payments is killed when it has written the reference",
  "points": [
   "payments.receipt.after-reference"
  ],
  "ask": [
   {
    "with": false,
    "text": "The row refers to a document that was to be stored next. What does a reader of the receipt get, after the restart?",
    "choices": [
     "200",
     "404",
     "500"
    ],
    "answer": "500",
    "why": "The row says that there is a receipt. To the code that is a document that must be there."
   }
  ],
  "edit": "--- a/shared/pattern/storethenreference/store_then_reference.go\n+++ b/shared/pattern/storethenreference/store_then_reference.go\n@@\n \tnow := at.Database.UTC()\n \tref := Ref{\n \t\tName:     path.Join(s.Dir, now.Format(minuteLayout), now.Format(stampLayout)+\"-\"+uuid.NewString()+seal(body)),\n \t\tCommitBy: now.Add(s.Grace / 2),\n \t}\n-\terr := s.Bucket.WriteAll(ctx, ref.Name, body, &blob.WriterOptions{ContentType: contentType, DisableContentTypeDetection: true})\n-\tif err != nil {\n-\t\treturn Ref{}, fmt.Errorf(\"storethenreference: store %s: %w\", ref.Name, err)\n-\t}\n-\treturn ref, nil\n+\treturn ref, nil // the caller stores it when the reference is committed\n }\n \n // seal ends the name of a document, so that the holder of the reference can tell whether\n // the document is whole.\n--- a/services/payments/receipt.go\n+++ b/services/payments/receipt.go\n@@\n \tif err != nil || len(due) == 0 {\n \t\treturn 0, err\n \t}\n \tids, names := make([]uuid.UUID, len(due)), make([]string, len(due))\n+\tpages := map[string][]byte{}\n \tvar before time.Time // the same for all: they have one moment\n \tnews := receiptNews{}\n \tfor i, p := range due {\n \t\tvar page bytes.Buffer\n@@\n \t\tif err != nil {\n \t\t\treturn 0, err\n \t\t}\n \t\tids[i], names[i], before = p.ID, ref.Name, ref.CommitBy\n+\t\tpages[ref.Name] = page.Bytes()\n \t\tnews.Receipts = append(news.Receipts, receiptOfOrder{OrderID: p.wireOrderID(), ReceiptID: p.receiptID()})\n \t}\n \tif err := fault.Point(ctx, fault.PaymentsReceiptAfterStore); err != nil {\n \t\treturn 0, err\n@@\n \tif err != nil {\n \t\treturn 0, err\n \t}\n \ts.relay.Wake()\n-\treturn len(due), fault.Point(ctx, fault.PaymentsReceiptAfterReference)\n+\terr = fault.Point(ctx, fault.PaymentsReceiptAfterReference)\n+\tfor name, page := range pages {\n+\t\tif err == nil {\n+\t\t\terr = s.receipts.Bucket.WriteAll(ctx, name, page, &blob.WriterOptions{ContentType: \"text/html; charset=utf-8\"})\n+\t\t}\n+\t}\n+\treturn len(due), err\n }\n \n // receiptsAreOurs tells whether this replica is the one that writes receipts. The\n // lease is extended when a third of it has passed, not at each batch: a batch has\n",
  "without": {
   "good": false,
   "says": "a reader of the receipt gets: 500, not 200"
  },
  "with": {
   "good": true,
   "says": "a reader of the receipt gets: 200"
  }
 },
 {
  "id": "garbage-collection",
  "says": "Keys are kept for a day and written with every request.",
  "fault": "thousands of keys have expired",
  "ask": [
   {
    "with": false,
    "text": "5000 keys have expired. A reader ignores them. How many of them are there twenty seconds later?",
    "choices": [
     "0",
     "5000"
    ],
    "answer": "5000",
    "why": "To ignore a row is not to delete it. The table grows with every request, and never shrinks."
   }
  ],
  "edit": "--- a/services/orders/garbage.go\n+++ b/services/orders/garbage.go\n@@\n \t\"example.com/failwell/shared/pattern/callback\"\n \t\"example.com/failwell/shared/pattern/changerecord\"\n \t\"example.com/failwell/shared/pattern/garbagecollection\"\n-\t\"example.com/failwell/shared/pattern/idempotency\"\n )\n \n // garbageRules says what this service does not need any more. None of them\n@@\n // Pattern: garbage-collection\n func (s *service) garbageRules() []garbagecollection.Rule {\n \treturn []garbagecollection.Rule{\n-\t\tgarbagecollection.SQL(s.db, \"idempotency-keys\", 0, idempotency.DeleteExpired),\n \t\tgarbagecollection.SQL(s.db, \"inbox\", s.cfg.InboxRetention, changerecord.DeleteOld(\"/payments\", \"/ledger\")),\n \t\tgarbagecollection.SQL(s.db, \"delivered-callbacks\", s.cfg.CallbackRetention, callback.DeleteDelivered),\n \t}\n",
  "without": {
   "good": false,
   "says": "expired rows left: 5000, not 0"
  },
  "with": {
   "good": true,
   "says": "expired rows left: 0"
  }
 }
]
