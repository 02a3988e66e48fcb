package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/scripts/bench/figures"
	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/outbox/rabbitpublisher"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/rabbit"
	"example.com/failwell/shared/platform/wait"
)

// bodySize is that of a command of ours.
const bodySize = 600

// relay measures the way from the outbox into the broker, beside a publisher that
// has nothing else to do and forgets what it has published.
func (b *bench) relay(ctx context.Context) error {
	w, err := b.newRelayWorld(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	n := 40_000
	if b.Quick {
		n = 10_000
	}
	_, err = b.against("relay, outbox to confirmed", "messages/s",
		contender{"", 0, func() (sample, error) { return w.drain(ctx, n) }},
		contender{"a plain pipelined publisher with confirms", 0.7, func() (sample, error) { return w.publish(ctx, n) }})
	if err != nil {
		return err
	}
	idle, err := w.latency(ctx, 200)
	if err != nil {
		return err
	}
	b.report.add(figures.Row{Line: "relay, commit to consumer when idle", Unit: "one at a time", P50: idle.p50, P99: idle.p99, LimitP50: 5 * time.Millisecond})
	return nil
}

type relayWorld struct {
	db     *pgxpool.Pool
	broker *rabbit.Conn
	ch     *amqp.Channel
}

const (
	relayQueue  = "bench"
	benchWriter = "bench"
	drainPoll   = 2 * time.Millisecond
)

var benchOutbox = outbox.New("/bench", benchWriter)

// newRelayWorld makes a database with nothing but an outbox, and a queue.
func (b *bench) newRelayWorld(ctx context.Context) (*relayWorld, error) {
	admin, err := pgx.Connect(ctx, b.System.Servers.PostgresURL)
	if err != nil {
		return nil, err
	}
	defer admin.Close(ctx) //nolint:errcheck // nothing is at stake
	for _, statement := range []string{`DROP DATABASE IF EXISTS bench WITH (FORCE)`, `CREATE DATABASE bench`} {
		if _, err := admin.Exec(ctx, statement); err != nil {
			return nil, err
		}
	}
	w, url, log := &relayWorld{}, strings.TrimSuffix(b.System.Servers.PostgresURL, "/postgres")+"/bench", slog.New(slog.DiscardHandler)
	if w.db, err = postgres.Open(ctx, postgres.Options{URL: url, Logger: log}); err != nil {
		return nil, err
	}
	if _, err := w.db.Exec(ctx, outbox.Schema); err != nil {
		return nil, err
	}
	w.broker = rabbit.Dial(rabbit.Options{URL: b.System.Servers.AMQPURL, Name: "bench", Logger: log})
	if err := w.reconnect(ctx); err != nil {
		return nil, err
	}
	_, err = w.ch.QueueDeclare(relayQueue, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum})
	return w, errors.Join(err, w.broker.DeclareExchange(w.ch), w.ch.QueueBind(relayQueue, relayQueue, rabbit.Exchange, false, nil))
}

// reconnect waits for the broker and opens a channel.
func (w *relayWorld) reconnect(ctx context.Context) (err error) {
	if err = w.broker.Wait(ctx); err == nil {
		w.ch, err = w.broker.Channel()
	}
	return err
}

func (w *relayWorld) close() {
	w.broker.Close()
	w.db.Close()
}

func (w *relayWorld) start(ctx context.Context) (relay *outbox.Relay, stop func()) {
	relay = outbox.NewRelay(benchOutbox, outbox.Config{DB: w.db, Publisher: rabbitpublisher.New(w.broker), Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { relay.Run(ctx) })
	return relay, func() { cancel(); running.Wait() }
}

// drain fills the outbox and measures how long the relay takes to empty it.
func (w *relayWorld) drain(ctx context.Context, n int) (sample, error) {
	_, err := w.db.Exec(ctx, `
		INSERT INTO outbox (writer, message_id, type, body)
		SELECT $1, gen_random_uuid(), $2, convert_to(repeat('x', $3), 'UTF8')
		  FROM generate_series(1, $4) i`,
		benchWriter, relayQueue, bodySize, n)
	if err != nil {
		return sample{}, err
	}
	if _, err := w.db.Exec(ctx, `VACUUM ANALYZE outbox`); err != nil {
		return sample{}, err
	}
	begun := time.Now()
	_, stop := w.start(ctx)
	defer stop()
	err = wait.Until(ctx, drainPoll, "the outbox to be empty", func() (empty bool, err error) {
		err = w.db.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM outbox)`).Scan(&empty)
		return empty, err
	})
	if err != nil {
		return sample{}, err
	}
	elapsed := time.Since(begun)
	return sample{perSecond: float64(n) / elapsed.Seconds()}, w.purge(n)
}

// purge checks that the broker has as many as were sent, and empties the queue.
func (w *relayWorld) purge(n int) error {
	purged, err := w.ch.QueuePurge(relayQueue, false)
	if err == nil && purged != n {
		err = fmt.Errorf("%d messages in the queue, want %d", purged, n)
	}
	return err
}

// publish is the limit: the same messages in pipelines of the same length, from nowhere.
func (w *relayWorld) publish(ctx context.Context, n int) (sample, error) {
	const pipeline = 500
	body := []byte(strings.Repeat("x", bodySize))
	publisher := w.broker.Publisher()
	begun := time.Now()
	for range n / pipeline {
		messages := make([]rabbit.Message, pipeline)
		for i := range messages {
			messages[i] = rabbit.Message{ID: uuid.NewString(), RoutingKey: relayQueue, ContentType: "application/json", Body: body}
		}
		if _, err := publisher.Publish(ctx, messages); err != nil {
			return sample{}, err
		}
	}
	elapsed := time.Since(begun)
	return sample{perSecond: float64(n) / elapsed.Seconds()}, w.purge(n)
}

// latency measures from the commit of a message to its delivery, one at a time.
func (w *relayWorld) latency(ctx context.Context, n int) (sample, error) {
	relay, stop := w.start(ctx)
	defer stop()
	deliveries, err := w.ch.ConsumeWithContext(ctx, relayQueue, "", true, false, false, false, nil)
	if err != nil {
		return sample{}, err
	}
	var took []time.Duration
	for i := range n + 10 {
		message, err := benchOutbox.Envelope(ctx, outbox.Message{Type: relayQueue, Subject: fmt.Sprint("subject-", i), Data: strings.Repeat("x", bodySize)})
		if err == nil {
			err = postgres.Write(ctx, w.db, message.Append)
		}
		if err != nil {
			return sample{}, err
		}
		committed := time.Now()
		relay.Wake()
		select {
		case <-deliveries:
		case <-time.After(10 * time.Second):
			return sample{}, errors.New("a message was not delivered within ten seconds")
		}
		if i >= 10 { // the first ones open connections
			took = append(took, time.Since(committed))
		}
	}
	return summary(took, time.Second), nil
}
