package outbox_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/outbox/rabbitpublisher"
)

func TestTakeover_LeavesTheRowsOfALivingWriterAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen("#")
	configs := []outbox.Config{w.config(), w.config()}
	for i, writer := range []string{"orders-1", "orders-2"} {
		configs[i].Takeover = timeout
		w.start(writer, configs[i])
	}
	const each = 400
	for n := range each {
		w.write("orders-1", numbered(each)[n])
		w.write("orders-2", numbered(each)[n])
	}
	w.hearOnce(arrived, 2*each)
	w.emptied()
	w.silence(arrived)
	for _, cfg := range configs {
		if n := counter(t, cfg, "failwell_outbox_adopted_total"); n != 0 {
			t.Errorf("took over %d", n)
		}
	}
}

func TestTakeover_FromAWriterThatIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen("#")
	w.write("gone", numbered(1200)...)
	cfg := w.config()
	cfg.Takeover = 2 * time.Second
	w.start("alive", cfg)

	var written, now time.Time
	if err := w.db.QueryRow(t.Context(), `SELECT min(due_at) FROM outbox`).Scan(&written); err != nil {
		t.Fatal(err)
	}
	w.hear(arrived)
	if err := w.db.QueryRow(t.Context(), `SELECT now()`).Scan(&now); err != nil {
		t.Fatal(err)
	}
	if waited := now.Sub(written); waited < cfg.Takeover {
		t.Errorf("taken over after %s; its writer may be alive", waited)
	}
	w.hearOnce(arrived, 1199)
	w.emptied()
	w.silence(arrived)
	if n := counter(t, cfg, "failwell_outbox_adopted_total"); n != 1200 {
		t.Errorf("counted as taken over: %d", n)
	}
}

// A writer that is alive and cut off from its broker goes on writing; another sends.
func TestTakeover_FromAWriterThatIsCutOffFromItsBroker(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen("#")
	broker, proxy := w.proxied()
	cutOff, connected := w.config(), w.config()
	cutOff.Publisher = rabbitpublisher.New(broker)
	cutOff.Takeover, connected.Takeover = 200*time.Millisecond, 200*time.Millisecond
	relay, _ := w.start("cut off", cutOff)
	w.start("connected", connected)
	w.write("cut off", "before")
	relay.Wake()
	w.hear(arrived)
	w.emptied()

	proxy.Stop()
	eventually(t, "the connection is gone", func() bool { return broker.Ready() != nil })
	for _, text := range numbered(5) {
		w.write("cut off", text)
		relay.Wake()
		if h, _ := w.hear(arrived); h.text != text {
			t.Errorf("arrived %q, want %q", h.text, text)
		}
	}
	w.emptied()
	w.silence(arrived)
}

func TestTakeover_AReplicaWithoutABrokerTakesNothingOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	broker, proxy := w.proxied()
	proxy.Stop()
	eventually(t, "the connection is gone", func() bool { return broker.Ready() != nil })
	w.write("gone", "for one with a broker")
	w.age(-time.Hour)
	cfg := w.config()
	cfg.Publisher, cfg.Takeover = rabbitpublisher.New(broker), time.Minute
	w.start("cut off", cfg)
	eventually(t, "it has tried a few times", func() bool { return counter(t, cfg, "failwell_outbox_failures_total") > 3 })
	if n := counter(t, cfg, "failwell_outbox_adopted_total"); n != 0 {
		t.Errorf("took over %d", n)
	}
}

func TestTakeover_TwoProcessesNeverTakeTheSameRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen("#")
	const messages = 10_000
	w.write("gone", numbered(messages)...)
	w.age(-time.Hour)
	configs := make([]outbox.Config, 3)
	for i, writer := range []string{"orders-1", "orders-2", "orders-3"} {
		configs[i] = w.config()
		configs[i].Takeover = time.Minute
		w.start(writer, configs[i])
	}
	w.hearOnce(arrived, messages)
	w.emptied()
	w.silence(arrived)
	takenOver := 0
	for _, cfg := range configs {
		takenOver += counter(t, cfg, "failwell_outbox_adopted_total")
	}
	if takenOver != messages {
		t.Errorf("taken over: %d of %d", takenOver, messages)
	}
}

// Somebody set the database's clock back, or a person has mistyped a time.
func TestTakeover_ATimeFarAheadCountsAsOld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen("#")
	w.write("gone", "from the future")
	w.age(+24 * time.Hour)
	cfg := w.config()
	cfg.Takeover = time.Minute
	w.start("alive", cfg)
	w.hear(arrived)
}

// recorder notes in which order messages were published, and takes its time.
type recorder struct {
	outbox.Publisher
	delay time.Duration

	mu    sync.Mutex
	texts []string
}

func (r *recorder) Publish(ctx context.Context, messages []outbox.Envelope) ([]outbox.Outcome, error) {
	time.Sleep(r.delay)
	r.mu.Lock()
	for _, m := range messages {
		r.texts = append(r.texts, m.Type)
	}
	r.mu.Unlock()
	return r.Publisher.Publish(ctx, messages)
}

func TestTakeover_ABusyReplicaPublishesItsOwnFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.listen("#")
	const own, inFlight = 5000, 500
	b := &pgx.Batch{}
	w.envelope("gone", "tests.left-behind", "left behind").Append(b)
	if err := w.db.SendBatch(t.Context(), b).Close(); err != nil {
		t.Fatal(err)
	}
	w.write("orders-1", numbered(own)...)
	w.age(-time.Hour)
	cfg := w.config()
	cfg.Takeover = time.Minute
	published := &recorder{Publisher: cfg.Publisher, delay: 5 * cfg.Poll}
	cfg.Publisher = published
	w.start("orders-1", cfg)
	w.emptied()
	if first := slices.Index(published.texts, "tests.left-behind"); first < own-inFlight {
		t.Errorf("took over another's after %d of its own %d messages", first, own)
	}
}

// Of a writer that is slow and alive, others take what it would come to last. So what it
// has in hand is published once, until nothing else is left.
func TestTakeover_ASlowWritersRowsAreSharedRatherThanSentTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.listen("#")
	const messages, inFlight = 20_000, 500
	w.write("slow", numbered(messages)...)
	w.age(-time.Hour)
	slow, helper := w.config(), w.config()
	slow.Publisher = &recorder{Publisher: slow.Publisher, delay: 100 * time.Millisecond}
	slow.Takeover, helper.Takeover = time.Minute, time.Minute
	w.start("slow", slow)
	w.start("helper", helper)
	w.emptied()
	helped := counter(t, helper, "failwell_outbox_published_total")
	if twice := counter(t, slow, "failwell_outbox_published_total") + helped - messages; helped == 0 || twice > inFlight {
		t.Errorf("of %d messages the helper has published %d, and %d were published twice", messages, helped, twice)
	}
}

// The broker takes longer to confirm than Takeover. A process that has a message confirmed
// deletes it, also when another has taken it over meanwhile; else they would publish it in turn
// without end.
func TestTakeover_AConfirmedMessageIsNotPublishedWithoutEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.listen("#")
	var published []*recorder
	for _, writer := range []string{"orders-1", "orders-2", "orders-3"} {
		cfg := w.config()
		cfg.Takeover = 50 * time.Millisecond
		slow := &recorder{Publisher: cfg.Publisher, delay: 500 * time.Millisecond}
		cfg.Publisher = slow
		published = append(published, slow)
		w.start(writer, cfg)
	}
	w.write("orders-1", numbered(20)...)
	w.emptied()
	sent := 0
	for _, r := range published {
		r.mu.Lock()
		sent += len(r.texts)
		r.mu.Unlock()
	}
	if sent > 3*20 { // once by each that it was left behind for, at most
		t.Errorf("20 messages were published %d times", sent)
	}
}
