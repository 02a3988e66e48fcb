package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/wait"
	"example.com/failwell/shared/testenv"
)

type repairing = func(ctx context.Context) error

// scenes make each alarm sound.
var scenes = []scene{
	{"ServiceDown", "*ledger* is paused (SIGSTOP)", "it goes on", (*world).pausedService},
	{"DatabaseUnreachable", "PostgreSQL is killed", "it is started", (*world).killedDatabase},
	{"BrokerUnreachable", "RabbitMQ is killed", "it is started", (*world).killedBroker},
	{"WrongKeys", "requests with a wrong key, fifty a second", "they end", (*world).wrongKeys},
	{"MessagesRefused", "*ledger* has a message for which no queue is bound", "its receiver declares one", (*world).unroutable},
	{"OutboxStuck", "the relay of *ledger* hangs", "the process is killed, and starts again", (*world).hangingRelay},
	{"OutboxAdopted", "the relay of the second *orders* hangs, and it goes on accepting", "the process is killed, and starts again", (*world).adoptedMessages},
	{"SagaCommandsResent", "the processor answers each hold with 500, and the replies count as overdue (`resend_at` of the sagas is set to now)", "the processor works", (*world).silentParticipant},
	{"OrderStuck", "a transaction that a person has left open holds the merchant's accounts", "it is rolled back", (*world).heldAccounts},
	{"CompensationRefused", "the saga of a confirmed order is put to turn back (its row is edited)", "the row is put right", (*world).turnedBack},
	{"OrdersShed", "the processor is slow, and orders come faster", "they come no more", (*world).tooManyOrders},
	{"ConsumerPaused", "a retry queue is deleted, and the processor fails", "the processor works; the process starts again and declares the queue", (*world).missingRetryQueue},
	{"QueueNotConsumed", "a queue is there with other arguments", "it is deleted", (*world).otherQueue},
	{"QueueStalled", "the only worker of *ledger* hangs", "the process is killed, and starts again", (*world).hangingWorker},
	{"MessagesParked", "a message that is no event", "it is thrown away", (*world).poison},
	{"CallbacksGivenUp", "a merchant's endpoint answers 410", "it answers 204, and `ops callbacks replay`", (*world).goneEndpoint},
	{"CallbackBacklog", "1,001 callbacks (rows that are planted) to an endpoint that answers 503", "it answers 204", (*world).closedEndpoint},
	{"PayoutUnknown", "the bank answers a transfer with 500", "`ops payouts resolve`", (*world).unknownPayout},
	{"TransactionInDoubt", "*payments* hangs between the two prepares of a payout", "it goes on", (*world).inDoubt},
	{"PersonNeeded", "a stored receipt is cut off, and asked for", "the document is brought back", (*world).damagedReceipt},
	{"CompleterFailing", "the processor fails each refund, and its client is gone", "the processor works", (*world).failingRefund},
	{"EventsOverdue", "*payments* hangs before it records a capture; the processor's news of it is there", "it goes on", (*world).earlyNews},
	{"ReconciliationUnresolvable", "a payout that is not on the bank's statement, and a reconciliation", "`ops payouts resolve`, and another reconciliation", (*world).notOnStatement},
	{"ReconciliationIncomplete", "the processor and the bank hang (SIGSTOP), and a reconciliation", "they go on, and another reconciliation", (*world).noStatement},
	{"JobNotDone", "the lease of a job has run out long ago (its row is edited), and a transaction that a person has left open holds the row", "it is rolled back", (*world).heldLease},
}

var mug = shop.Item{SKU: "mug", Quantity: 1}

// place places an order at a replica of orders and does not wait for its end. callback
// empty: the sandbox's.
func (w *world) place(ctx context.Context, at, callback string) (shop.Order, error) {
	token, err := w.shop.Token(ctx, shop.CardWorks)
	if err != nil {
		return shop.Order{}, err
	}
	body := w.shop.Basket(token, mug)
	if callback != "" {
		body = bytes.ReplaceAll(body, []byte(w.shop.Sandbox), []byte(callback))
	}
	a, err := w.shop.Post(ctx, w.URL[at]+"/v1/orders", uuid.NewString(), body)
	if err != nil || a.Status == http.StatusServiceUnavailable {
		return shop.Order{}, err // turned away
	}
	return decoded[shop.Order](a, err)
}

// background does something again and again until it is repaired.
func background(ctx context.Context, every time.Duration, do func(ctx context.Context)) repairing {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			do(ctx)
			wait.For(ctx, every)
		}
	}()
	return func(context.Context) error { cancel(); <-ended; return nil }
}

// stream places orders.
func (w *world) stream(ctx context.Context, at string, every time.Duration) repairing {
	return background(ctx, every, func(ctx context.Context) { _, _ = w.place(ctx, at, "") })
}

// restarted kills a process and waits until the next one is ready.
func (w *world) restarted(name string) repairing {
	return func(ctx context.Context) error {
		w.Signal(name, syscall.SIGKILL)
		return w.WaitReady(ctx)
	}
}

func (w *world) works(ctx context.Context) error { return w.shop.Misbehave(ctx, `{"rules":[]}`) }

// fails lets each call of a contract of the outside world fail until it works again.
func (w *world) fails(ctx context.Context, contract string) error {
	return w.shop.Misbehave(ctx, fmt.Sprintf(`{"rules":[{"contract":%q,"fault":"fail_before"}]}`, contract))
}

// exec runs statements in a service's database.
func (w *world) exec(ctx context.Context, service, sql string, args ...any) error {
	return w.inDatabase(ctx, service, func(db *pgx.Conn) error {
		_, err := db.Exec(ctx, sql, args...)
		return err
	})
}

func (w *world) inDatabase(ctx context.Context, service string, do func(db *pgx.Conn) error) error {
	db, err := pgx.Connect(ctx, w.DatabaseURL(service))
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.Close(ctx))
}

// hold runs statements in a transaction that is left open until it is repaired.
func (w *world) hold(ctx context.Context, service, sql string) (repairing, error) {
	db, err := pgx.Connect(ctx, w.DatabaseURL(service))
	if err != nil {
		return nil, err
	}
	// As a person's session, which the time-out of the service's role does not end.
	_, err = db.Exec(ctx, `SET idle_in_transaction_session_timeout = 0; `+sql)
	return db.Close, err
}

// broker does something with RabbitMQ itself.
func (w *world) broker(do func(ch *amqp.Channel) error) error {
	conn, err := amqp.Dial(w.Env()["AMQP_URL"])
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // what was asked for was answered
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	return do(ch)
}

func (w *world) pausedService(context.Context) (repairing, error) {
	w.Signal(stack.Ledger, testenv.Pause)
	return func(context.Context) error { w.Signal(stack.Ledger, testenv.Resume); return nil }, nil
}

func (w *world) killedDatabase(ctx context.Context) (repairing, error) {
	return w.Servers.StartPostgres, w.Servers.KillPostgres(ctx)
}

func (w *world) killedBroker(ctx context.Context) (repairing, error) {
	return w.Servers.StartRabbit, w.Servers.KillRabbit(ctx)
}

func (w *world) wrongKeys(ctx context.Context) (repairing, error) {
	stranger := *w.shop
	stranger.Key = "sk_of_a_stranger"
	return background(ctx, 20*time.Millisecond, func(ctx context.Context) {
		_, _ = stranger.Get(ctx, w.URL[stack.Payments]+"/v1/payments")
	}), nil
}

func (w *world) unroutable(ctx context.Context) (repairing, error) {
	const queue, key = "observe.late", "observe.unheard"
	repair := func(context.Context) error {
		return w.broker(func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(queue, true, false, false, false, nil)
			if err == nil {
				err = ch.QueueBind(queue, key, "failwell", false, nil)
			}
			return err
		})
	}
	return repair, w.exec(ctx, stack.Ledger, `INSERT INTO outbox (writer, message_id, type, body) VALUES ('ledger-1', gen_random_uuid(), $1, '')`, key)
}

func (w *world) hangingRelay(ctx context.Context) (repairing, error) {
	err := w.shop.ArmDelay(ctx, w.URL[stack.Ledger], "outbox.relay.before-publish", time.Minute)
	if err == nil {
		_, err = w.place(ctx, stack.Orders, "")
	}
	return w.restarted(stack.Ledger), err
}

func (w *world) adoptedMessages(ctx context.Context) (repairing, error) {
	err := w.shop.ArmDelay(ctx, w.URL["orders-2"], "outbox.relay.before-publish", time.Minute)
	stop := w.stream(ctx, "orders-2", 200*time.Millisecond)
	return func(ctx context.Context) error { return errors.Join(stop(ctx), w.restarted("orders-2")(ctx)) }, err
}

func (w *world) silentParticipant(ctx context.Context) (repairing, error) {
	err := w.fails(ctx, "charges.create")
	for range 8 {
		if err == nil {
			_, err = w.place(ctx, stack.Orders, "")
		}
	}
	return w.works, errors.Join(err, w.exec(ctx, stack.Orders, `UPDATE sagas SET resend_at = now() WHERE phase = 'forward'`))
}

func (w *world) heldAccounts(ctx context.Context) (repairing, error) {
	repair, err := w.hold(ctx, stack.Ledger, `BEGIN; SELECT FROM accounts WHERE merchant_id = 'mer_acme' FOR UPDATE`)
	if err == nil {
		_, err = w.place(ctx, stack.Orders, "")
	}
	return repair, err
}

func (w *world) turnedBack(ctx context.Context) (repairing, error) {
	o, err := w.shop.Buy(ctx, shop.CardWorks, mug)
	if err != nil {
		return nil, err
	}
	saga := func(set string) repairing {
		return func(ctx context.Context) error {
			return w.exec(ctx, stack.Orders, `UPDATE sagas SET version = version + 1, `+set+` WHERE 'ord_' || id = $1`, o.ID)
		}
	}
	return saga(`phase = 'completed', step = '', resend_at = NULL`), saga(`phase = 'compensating', step = 'void', resend_at = now()`)(ctx)
}

func (w *world) tooManyOrders(ctx context.Context) (repairing, error) {
	err := w.shop.Misbehave(ctx, `{"rules":[{"contract":"charges.create","fault":"delay","delay_ms":1000}]}`)
	stop := w.stream(ctx, "orders-2", 10*time.Millisecond)
	return func(ctx context.Context) error { return errors.Join(stop(ctx), w.works(ctx)) }, err
}

func (w *world) missingRetryQueue(ctx context.Context) (repairing, error) {
	err := w.broker(func(ch *amqp.Channel) error {
		_, err := ch.QueueDelete("payments.commands.retry.100ms", false, false, false)
		return err
	})
	err = errors.Join(err, w.fails(ctx, "charges.create"))
	if err == nil {
		_, err = w.place(ctx, stack.Orders, "")
	}
	return func(ctx context.Context) error {
		return errors.Join(w.works(ctx), w.restarted(stack.Payments)(ctx))
	}, err
}

// otherQueue is quicker than the consumer, which declares its queue again half a second
// after it has lost it.
func (w *world) otherQueue(context.Context) (repairing, error) {
	const queue = "ledger.commands"
	remove := func(ch *amqp.Channel) error {
		_, err := ch.QueueDelete(queue, false, false, false)
		return err
	}
	return func(context.Context) error { return w.broker(remove) }, w.broker(func(ch *amqp.Channel) error {
		err := remove(ch)
		if err == nil {
			_, err = ch.QueueDeclare(queue, true, false, false, false, nil)
		}
		return err
	})
}

func (w *world) hangingWorker(ctx context.Context) (repairing, error) {
	err := w.shop.ArmDelay(ctx, w.URL[stack.Ledger], "consumer.before-ack", time.Minute)
	for range 16 { // more than are fetched ahead
		if err == nil {
			_, err = w.place(ctx, stack.Orders, "")
		}
	}
	return w.restarted(stack.Ledger), err
}

func (w *world) poison(ctx context.Context) (repairing, error) {
	const queue = "payments.commands"
	repair := func(context.Context) error {
		return w.broker(func(ch *amqp.Channel) error {
			_, err := ch.QueuePurge(queue+".dead", false)
			return err
		})
	}
	return repair, w.broker(func(ch *amqp.Channel) error {
		return ch.PublishWithContext(ctx, "", queue, true, false, amqp.Publishing{MessageId: "poison", DeliveryMode: amqp.Persistent, Body: []byte("not an event")})
	})
}

// endpoint is a merchant's, whose answer can be changed.
func endpoint(answer *int) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(to http.ResponseWriter, _ *http.Request) { to.WriteHeader(*answer) }))
}

func (w *world) goneEndpoint(ctx context.Context) (repairing, error) {
	answer := http.StatusGone
	merchant := endpoint(&answer)
	_, err := w.place(ctx, stack.Orders, merchant.URL)
	return func(ctx context.Context) error {
		defer merchant.Close()
		answer = http.StatusNoContent
		var id string
		err := w.inDatabase(ctx, stack.Orders, func(db *pgx.Conn) error {
			return db.QueryRow(ctx, `SELECT id::text FROM callbacks WHERE state = 'parked'`).Scan(&id)
		})
		if err != nil {
			return err
		}
		if err := w.ops(ctx, "callbacks", "replay", id); err != nil {
			return err
		}
		return w.eventually(ctx, stack.Orders, `SELECT NOT EXISTS (SELECT FROM callbacks WHERE state <> 'delivered')`)
	}, err
}

func (w *world) closedEndpoint(ctx context.Context) (repairing, error) {
	answer := http.StatusServiceUnavailable
	merchant := endpoint(&answer)
	return func(ctx context.Context) error {
			defer merchant.Close()
			answer = http.StatusNoContent
			return w.eventually(ctx, stack.Orders, `SELECT NOT EXISTS (SELECT FROM callbacks WHERE state <> 'delivered')`)
		}, w.exec(ctx, stack.Orders, `
			INSERT INTO callbacks (id, merchant_id, subject, url, payload)
			SELECT gen_random_uuid(), 'mer_acme', 'observe', $1, '{}' FROM generate_series(1, 1001)`, merchant.URL)
}

// unknown makes a payout of which no person knows whether the bank has sent it.
func (w *world) unknown(ctx context.Context) (repair repairing, err error) {
	if err := w.fails(ctx, "bank.transfers"); err != nil {
		return nil, err
	}
	type payout struct{ ID, Status string }
	p, err := decoded[payout](w.payout(ctx))
	if err == nil && p.Status != "unknown" {
		err = fmt.Errorf("the payout is %s", p.Status)
	}
	return func(ctx context.Context) error {
		return errors.Join(w.works(ctx), w.ops(ctx, "payouts", "resolve", p.ID, "failed"))
	}, err
}

func (w *world) unknownPayout(ctx context.Context) (repairing, error) { return w.unknown(ctx) }

func (w *world) notOnStatement(ctx context.Context) (repairing, error) {
	resolve, err := w.unknown(ctx)
	err = errors.Join(err, w.works(ctx))
	if err == nil { // younger than RECONCILE_GRACE, it may only be on its way
		err = w.eventually(ctx, stack.Payments, `SELECT finished_at < now() - interval '1.2 s' FROM payouts WHERE outcome = 'unknown'`)
	}
	return func(ctx context.Context) error { return errors.Join(resolve(ctx), w.reconcile(ctx)) }, errors.Join(err, w.reconcile(ctx))
}

func (w *world) noStatement(ctx context.Context) (repairing, error) {
	w.Signal(stack.Sandbox, testenv.Pause)
	return func(ctx context.Context) error {
		w.Signal(stack.Sandbox, testenv.Resume)
		return w.reconcile(ctx)
	}, w.reconcile(ctx)
}

func (w *world) inDoubt(ctx context.Context) (repairing, error) {
	err := w.shop.ArmDelay(ctx, w.URL[stack.Payments], "payments.payout.after-ledger-prepare", 7*time.Second)
	done := make(chan error, 1)
	go func() {
		_, err := w.payout(ctx)
		done <- err
	}()
	return func(context.Context) error { return <-done }, err
}

func (w *world) damagedReceipt(ctx context.Context) (repairing, error) {
	o, err := w.shop.Buy(ctx, shop.CardWorks, mug)
	if err != nil {
		return nil, err
	}
	if err := w.eventually(ctx, stack.Payments, `SELECT receipt_name <> '' FROM payments WHERE 'pay_' || id = $1`, o.PaymentID); err != nil {
		return nil, err
	}
	var file string
	err = w.inDatabase(ctx, stack.Payments, func(db *pgx.Conn) error {
		return db.QueryRow(ctx, `SELECT receipt_name FROM payments WHERE 'pay_' || id = $1`, o.PaymentID).Scan(&file)
	})
	file = filepath.Join(w.Dir, "receipts", file)
	whole, read := os.ReadFile(file) //nolint:gosec // the path is ours
	if err = errors.Join(err, read); err != nil {
		return nil, err
	}
	show := func() (shop.Answer, error) {
		return w.shop.Get(ctx, w.shop.Payments+"/v1/payments/"+o.PaymentID+"/receipt")
	}
	if err := os.WriteFile(file, whole[:len(whole)/2], 0o600); err != nil {
		return nil, err
	}
	_, err = show()
	return func(context.Context) error {
		if err := os.WriteFile(file, whole, 0o600); err != nil {
			return err
		}
		if a, err := show(); err != nil || a.Status != http.StatusOK {
			return fmt.Errorf("the receipt: %s, %w", a, err)
		}
		return nil
	}, err
}

func (w *world) failingRefund(ctx context.Context) (repairing, error) {
	o, err := w.shop.Buy(ctx, shop.CardWorks, mug)
	if err == nil {
		err = w.fails(ctx, "charges.refund")
	}
	if err == nil {
		_, err = w.shop.Post(ctx, w.shop.Payments+"/v1/refunds", uuid.NewString(), fmt.Appendf(nil, `{"payment_id":%q}`, o.PaymentID))
	}
	return func(ctx context.Context) error {
		return errors.Join(w.works(ctx), w.eventually(ctx, stack.Payments, `SELECT bool_and(recovery_point = 'finished') FROM refunds`))
	}, err
}

func (w *world) earlyNews(ctx context.Context) (repairing, error) {
	err := w.shop.ArmDelay(ctx, w.URL[stack.Payments], "payments.capture.after-processor", 8*time.Second)
	var o shop.Order
	if err == nil {
		o, err = w.place(ctx, stack.Orders, "")
	}
	return func(ctx context.Context) error { _, err := w.shop.Finished(ctx, o.ID); return err }, err
}

// heldLease puts the lease's end back and holds its row, before the collector comes again.
func (w *world) heldLease(ctx context.Context) (repairing, error) {
	const back = `UPDATE leases SET expires_at = now() - interval '1 hour' WHERE name = 'garbage:inbox'`
	return w.hold(ctx, stack.Ledger, back+`; COMMIT; BEGIN; SELECT FROM leases WHERE name = 'garbage:inbox' FOR UPDATE`)
}
