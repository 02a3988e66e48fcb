package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/outbox/rabbitpublisher"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/rabbit"
	"example.com/failwell/shared/platform/tracing"
)

// With a transaction of pgx itself, and nothing of ours around it.
func TestRelay_PublishesWhatIsCommittedAndOnlyThat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen("#")
	w.start("relay", w.config())

	changedOurMind := errors.New("changed our mind")
	for text, result := range map[string]error{"never happened": changedOurMind, "happened": nil} {
		message := w.envelope("relay", "tests.said", text)
		err := pgx.BeginFunc(t.Context(), w.db, func(tx pgx.Tx) error {
			if err := message.AppendTx(t.Context(), tx); err != nil {
				return err
			}
			return result
		})
		if !errors.Is(err, result) {
			t.Fatal(err)
		}
	}
	if h, _ := w.hear(arrived); h.text != "happened" {
		t.Errorf("published from a transaction that was rolled back: %q", h.text)
	}
	w.emptied()
	w.silence(arrived)
}

func TestRelay_PublishesEachMessageOnceUnderItsID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen("#")
	const messages = 12 * 500 // several batches
	w.write("relay", numbered(messages)...)
	rows, _ := w.db.Query(t.Context(), `SELECT message_id::text FROM outbox`)
	written, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}

	w.start("relay", w.config())
	var published []string
	for id := range w.hearOnce(arrived, messages) {
		published = append(published, id)
	}
	slices.Sort(published)
	slices.Sort(written)
	if !slices.Equal(published, written) {
		t.Error("the ids that arrived are not those that were committed")
	}
	w.emptied()
	w.silence(arrived)
}

// What the broker would lose in a restart is not in the outbox any more.
func TestRelay_MessagesArePersistentAndBelongToTheTraceOfTheirRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen("#")
	ctx, span := tracing.Tracer().Start(t.Context(), "request")
	defer span.End()
	message, err := outbox.New(source, "relay").Envelope(ctx, outbox.Message{Type: "tests.said", Subject: "order-1", Data: "traced"})
	if err != nil {
		t.Fatal(err)
	}
	if err := pgx.BeginFunc(ctx, w.db, func(tx pgx.Tx) error { return message.AppendTx(ctx, tx) }); err != nil {
		t.Fatal(err)
	}
	w.start("relay", w.config())
	_, d := w.hear(arrived)
	got, _ := d.Headers["traceparent"].(string)
	if want := span.SpanContext().TraceID().String(); !strings.Contains(got, want) {
		t.Errorf("traceparent %q, want one of the trace %s", got, want)
	}
	if d.DeliveryMode != amqp.Persistent {
		t.Error("the broker may forget it when it restarts")
	}
}

func TestRelay_ReadsRowsThatCommitOutOfOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen("#")
	w.start("relay", w.config())

	slow, err := w.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Rollback(context.Background()) //nolint:errcheck // only when the test has failed already
	if err := w.envelope("relay", "tests.said", "slow").AppendTx(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	const quick = 2000 // no distance between the two ids is safe
	w.write("relay", numbered(quick)...)
	w.hearOnce(arrived, quick)
	w.emptied() // the relay is past the higher ids
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := fmt.Sprintf(`the message "slow", which was written first and committed after the %d that were written after it had been published,`, quick)
	if h, _ := w.hearOf(arrived, late); h.text != "slow" {
		t.Errorf("arrived %q", h.text)
	}
	w.emptied()
	w.silence(arrived)
}

// What the broker does not take stays, however much it is; the others get past it.
func TestRelay_RefusedMessagesStayAndHoldUpNoOther(t *testing.T) {
	t.Parallel()
	for _, why := range []string{"tests.no-queue", "tests.queue-is-full"} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			arrived := w.listen("tests.said")
			_, err := w.ch.QueueDeclare("full", true, false, false, false, amqp.Table{"x-max-length": int64(1), amqp.QueueOverflowArg: "reject-publish"})
			if err == nil {
				err = w.ch.QueueBind("full", "tests.queue-is-full", rabbit.Exchange, false, nil)
			}
			if err == nil {
				_, err = w.broker.Publisher().Publish(t.Context(), []rabbit.Message{{ID: "1", RoutingKey: "tests.queue-is-full"}})
			}
			if err != nil {
				t.Fatal(err)
			}
			const refused = 12 * 500 // several batches
			b := &pgx.Batch{}
			for range refused {
				w.envelope("relay", why, "refused").Append(b)
			}
			if err := w.db.SendBatch(t.Context(), b).Close(); err != nil {
				t.Fatal(err)
			}
			w.write("relay", "wanted")
			cfg := w.config()
			w.start("relay", cfg)

			if h, _ := w.hear(arrived); h.text != "wanted" {
				t.Errorf("arrived %q", h.text)
			}
			eventually(t, "only the refused are left", func() bool { return w.pending() == refused })
			if n := counter(t, cfg, "failwell_outbox_published_total"); n != 1 {
				t.Errorf("counted as published: %d, want 1", n)
			}
		})
	}
}

func TestRelay_ARefusedMessageArrivesOnceItsReceiverIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config()
	w.start("relay", cfg)
	w.write("relay", "early")
	eventually(t, "the broker refused it twice", func() bool { return counter(t, cfg, "failwell_outbox_failures_total") >= 2 })
	if n := w.pending(); n != 1 {
		t.Fatalf("%d messages wait, want the one that was refused", n)
	}
	arrived := w.listen("#")
	w.hear(arrived)
	w.emptied()
	w.silence(arrived)
}

func TestRelay_ACrashBeforeTheDeletePublishesAgainUnderTheSameID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen("#")
	w.write("dying", "once or twice")

	// Another process, because it is killed in the middle of its work.
	relay := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRelay_HelperProcessThatDies$")
	relay.Env = append(os.Environ(), "OUTBOX_TEST_DB="+w.dbURL, "OUTBOX_TEST_AMQP="+w.amqpURL)
	if out, err := relay.CombinedOutput(); err == nil {
		t.Fatalf("the relay should have died:\n%s", out)
	}
	first, _ := w.hear(arrived)
	w.silence(arrived)
	if n := w.pending(); n != 1 {
		t.Fatalf("%d messages wait, want the one that was not deleted", n)
	}

	w.start("dying", w.config())
	again, _ := w.hearOf(arrived, "the message whose process died while it published it, after a restart of that process,")
	if again != first {
		t.Errorf("published as %v, then as %v", first, again)
	}
	w.emptied()
	w.silence(arrived)
}

// TestRelay_HelperProcessThatDies is the other process of the test above.
func TestRelay_HelperProcessThatDies(t *testing.T) {
	if os.Getenv("OUTBOX_TEST_DB") == "" {
		t.Skip("only as another process")
	}
	if err := fault.Arm(fault.Order{Point: fault.OutboxRelayAfterPublish, Action: fault.Crash}); err != nil {
		t.Skip(err)
	}
	w := &world{t: t, db: openDB(t, os.Getenv("OUTBOX_TEST_DB")), broker: connect(t, os.Getenv("OUTBOX_TEST_AMQP"))}
	w.start("dying", w.config())
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	<-ctx.Done()
}

// lockedBuffer is a log that a test reads while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func TestRelay_GoesOnWhenTheBrokerIsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen("#")
	broker, proxy := w.proxied()
	var log lockedBuffer
	cfg := w.config()
	cfg.Publisher, cfg.Logger = rabbitpublisher.New(broker), slog.New(slog.NewTextHandler(&log, nil))
	w.start("relay", cfg)
	w.write("relay", "before")
	w.hear(arrived)
	w.emptied()

	proxy.Stop()
	eventually(t, "the connection is gone", func() bool { return broker.Ready() != nil })
	w.write("relay", numbered(1000)...)
	before := counter(t, cfg, "failwell_outbox_failures_total")
	eventually(t, "the relay has tried", func() bool { return counter(t, cfg, "failwell_outbox_failures_total") > before+2 })
	if n := strings.Count(log.String(), "will keep trying"); n != 1 {
		t.Errorf("%d lines in the log for one outage:\n%s", n, log.String())
	}
	if n := w.pending(); n != 1000 {
		t.Errorf("%d messages wait, want 1000", n)
	}
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	w.hearOnce(arrived, 1000)
	w.emptied()
	w.silence(arrived)
}

// Each relay is woken by its own process, so no message waits for a poll, or for another replica.
func TestRelay_WithReplicasNoMessageWaitsForAPoll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen("#")
	relays := map[string]*outbox.Relay{}
	for _, writer := range []string{"orders-1", "orders-2", "orders-3"} {
		cfg := w.config()
		cfg.Poll = never
		relays[writer], _ = w.start(writer, cfg)
	}
	for _, text := range numbered(20) {
		for writer, relay := range relays {
			w.write(writer, text)
			relay.Wake()
			if h, _ := w.hear(arrived); h.text != text {
				t.Errorf("arrived %q, want %q", h.text, text)
			}
		}
	}
	w.emptied()
	w.silence(arrived)
}

// A relay looks into the table when it starts: no wake-up comes for what its process
// wrote before the restart.
func TestRelay_GoesOnAtOnceAfterARestartUnderTheSameName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen("#")
	cfg := w.config()
	cfg.Poll = never
	_, stop := w.start("orders-1", cfg)
	stop()
	w.write("orders-1", "still here")
	cfg.Metrics = nil
	w.start("orders-1", cfg)
	w.hear(arrived)
}

// One replica is told to leave a refused message alone, and so are all others: it does not
// wander from one to the next.
func TestRelay_ARefusedMessageStaysWithItsWriter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	configs := []outbox.Config{w.config(), w.config()}
	for i, writer := range []string{"orders-1", "orders-2"} {
		configs[i].Takeover = 500 * time.Millisecond // a busy machine takes its time for the first try
		w.start(writer, configs[i])
	}
	w.write("orders-1", "no consumer")
	begun := time.Now()
	eventually(t, "the broker refused it three times, and it could have been taken over often", func() bool {
		return counter(t, configs[0], "failwell_outbox_failures_total") >= 3 && time.Since(begun) > 4*configs[1].Takeover
	})
	if n := counter(t, configs[1], "failwell_outbox_adopted_total"); n != 0 {
		t.Errorf("the other replica has taken it over %d times", n)
	}
}

// A message that the broker can never take would hold up all the others.
func TestEnvelope_RefusesWhatTheBrokerCannotTake(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	messages := outbox.New(source, "relay")
	for name, m := range map[string]outbox.Message{
		"a routing key of 300 bytes": {Type: strings.Repeat("k", 300), Subject: "order-1"},
		"a body of two megabytes":    {Type: "tests.said", Subject: "order-1", Data: strings.Repeat("x", 2<<20)},
	} {
		if _, err := messages.Envelope(t.Context(), m); err == nil {
			t.Errorf("%s: in an envelope", name)
		}
	}
	_, err := w.db.Exec(t.Context(), `INSERT INTO outbox (writer, message_id, type, body) VALUES ('relay', gen_random_uuid(), $1, '{}')`, strings.Repeat("k", 300))
	if err == nil {
		t.Error("a routing key of 300 bytes: in the table")
	}
}

// A database that does not answer holds up a relay for as long as it does not answer.
func TestRelay_GoesOnWhenTheDatabaseAnswersAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen("#")
	w.write("relay", "patience")
	locked, err := w.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer locked.Rollback(context.Background()) //nolint:errcheck // only when the test has failed already
	if _, err := locked.Exec(t.Context(), `LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	cfg := w.config()
	w.start("relay", cfg)
	eventually(t, "the relay has given up a read", func() bool { return counter(t, cfg, "failwell_outbox_failures_total") > 0 })
	if err := locked.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.hear(arrived)
	w.emptied()
}

// What cannot be encoded is an error before the transaction, not inside.
func TestEnvelope_RefusesWhatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	_, err := outbox.New(source, "relay").Envelope(t.Context(), outbox.Message{Type: "tests.said", Subject: "order-1", Data: make(chan int)})
	if err == nil {
		t.Error("put a channel into an envelope")
	}
}
