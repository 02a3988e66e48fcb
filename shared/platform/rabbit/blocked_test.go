package rabbit_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/platform/rabbit"
	"example.com/failwell/shared/testenv"
)

// blocking is a way to the broker that reads nothing more from a connection once it
// has seen a text on it, and still passes on what the broker has to say: this is what
// a connection looks like to a publisher whose broker is short of memory or disk.
// hangUp ends those connections at the broker, which then takes back what was not
// acknowledged on them.
func blocking(t *testing.T, text string) (brokerURL string, blocked *atomic.Int32, hangUp func()) {
	t.Helper()
	u, err := url.Parse(testenv.Rabbit(t))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	broker := u.Host
	u.Host = listener.Addr().String()
	blocked = &atomic.Int32{}
	over, hangUp := context.WithCancel(t.Context())
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", broker)
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() {
				_, _ = io.Copy(client, server)
				_ = client.Close()
			}()
			go func() {
				defer server.Close() //nolint:errcheck // a test's
				buf := make([]byte, 1<<16)
				for {
					n, err := client.Read(buf)
					if bytes.Contains(buf[:n], []byte(text)) {
						blocked.Add(1)
						<-over.Done()
						return
					}
					if _, werr := server.Write(buf[:n]); err != nil || werr != nil {
						return
					}
				}
			}()
		}
	}()
	return u.String(), blocked, hangUp
}

func dial(t *testing.T, brokerURL string) *rabbit.Conn {
	t.Helper()
	conn := rabbit.Dial(rabbit.Options{URL: brokerURL, Name: "test", Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(conn.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := conn.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	return conn
}

// soon runs what must not hang: a stop has some seconds before it is a kill. The
// broker hangs up after ten without a heartbeat, and must not be what saves us.
func soon(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	begun := time.Now()
	go func() { defer close(done); do() }()
	select {
	case <-done:
		t.Log(what, "took", time.Since(begun).Round(time.Millisecond))
	case <-time.After(5 * time.Second):
		t.Errorf("%s hangs", what)
		<-done
	}
}

const swallow = "swallow-this"

func TestPublisher_StopsWithoutWaitingForABlockedBroker(t *testing.T) {
	t.Parallel()
	brokerURL, blocked, _ := blocking(t, swallow)
	conn := dial(t, brokerURL)
	queue(t, conn, "q", nil)
	publisher := conn.Publisher()
	if _, err := publisher.Publish(t.Context(), messages(1, "q")); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		for blocked.Load() == 0 {
			time.Sleep(5 * time.Millisecond)
		}
		stop()
	}()
	soon(t, "giving a publish up", func() {
		if _, err := publisher.Publish(ctx, []rabbit.Message{{ID: swallow, RoutingKey: "q"}}); err == nil {
			t.Error("published")
		}
	})
	ctx, stop = context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer stop()
	soon(t, "the next publish", func() { _, _ = publisher.Publish(ctx, messages(1, "q")) })
	soon(t, "closing", conn.Close)
}

// The library says "refused" of what was open when the connection broke. The broker may have it.
func TestPublisher_WhatWasOnItsWayWhenTheConnectionBrokeIsNotRefused(t *testing.T) {
	t.Parallel()
	brokerURL, blocked, hangUp := blocking(t, swallow)
	conn := dial(t, brokerURL)
	queue(t, conn, "q", nil)
	go func() {
		for blocked.Load() == 0 {
			time.Sleep(5 * time.Millisecond)
		}
		hangUp()
	}()
	confirmed, err := conn.Publisher().Publish(t.Context(), []rabbit.Message{{ID: swallow, RoutingKey: "q"}})
	if !errors.Is(err, rabbit.ErrUnconfirmed) || errors.Is(err, rabbit.ErrRefused) || confirmed[0] {
		t.Errorf("%v, %v", confirmed, err)
	}
}

// The socket is full as well: not even a write comes back.
func TestPublisher_GivesUpAWriteThatIsNotRead(t *testing.T) {
	t.Parallel()
	brokerURL, blocked, _ := blocking(t, swallow)
	conn := dial(t, brokerURL)
	queue(t, conn, "q", nil)
	large := []rabbit.Message{{ID: swallow, RoutingKey: "q", Body: make([]byte, 64<<20)}}
	ctx, stop := context.WithCancel(t.Context())
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		_, _ = conn.Publisher().Publish(ctx, large)
	}()
	for blocked.Load() == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	select {
	case <-returned:
	case <-time.After(8 * time.Second): // it writes for five, and closes for one
		t.Error("the publisher hangs in a write")
	}
	soon(t, "closing", conn.Close)
}

// Publishers are blocked because queues are full. So acknowledgements must get through.
func TestPublisher_BlockedDoesNotHoldUpAcknowledgements(t *testing.T) {
	t.Parallel()
	brokerURL, blocked, hangUp := blocking(t, swallow)
	conn := dial(t, brokerURL)
	queue(t, conn, "q", nil)
	if _, err := conn.Publisher().Publish(t.Context(), messages(3, "q")); err != nil {
		t.Fatal(err)
	}
	publishing, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	ctx, stop := context.WithCancel(t.Context())
	handled := 0
	conn.Consume(ctx, rabbit.Consumption{
		Queue: "q", Declare: func(*amqp.Channel) error { return nil }, Workers: 1, Prefetch: 8,
		Handle: func(_ context.Context, d amqp.Delivery) error {
			if handled == 0 {
				go func() { _, _ = conn.Publisher().Publish(publishing, []rabbit.Message{{ID: swallow, RoutingKey: "q"}}) }()
				for blocked.Load() == 0 {
					time.Sleep(5 * time.Millisecond)
				}
			}
			if err := d.Ack(false); err != nil {
				t.Error(err)
			}
			if handled++; handled == 3 {
				stop()
			}
			return nil
		},
	})
	giveUp()
	conn.Close()
	hangUp()
	// Whatever was not acknowledged is in the queue again, soon.
	ch := queue(t, dial(t, brokerURL), "q", nil)
	for begun := time.Now(); time.Since(begun) < time.Second; time.Sleep(20 * time.Millisecond) {
		if left := ready(t, ch, "q"); left != 0 {
			t.Fatalf("%d of 3 acknowledgements did not arrive", left)
		}
	}
}
