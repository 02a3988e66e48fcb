package rabbit

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	amqp "github.com/rabbitmq/amqp091-go"
)

// ErrNotConnected means: there is no connection to the broker at the moment. Nothing was sent.
var ErrNotConnected = errors.New("rabbit: not connected to the broker")

// ErrBlocked means: the broker is out of memory or disk and reads nothing from
// publishers. A publish now would hang in the socket; nothing was sent.
var ErrBlocked = errors.New("rabbit: the broker has blocked publishers")

const (
	// A dead peer is noticed after two missed heartbeats.
	heartbeat   = 5 * time.Second
	dialTimeout = 5 * time.Second

	// The broker takes several seconds to boot; there is no use in hammering it.
	reconnectFirst = 100 * time.Millisecond
	reconnectMax   = 2 * time.Second
)

// Options configures a connection.
type Options struct {
	// URL is amqp://user:password@host:port/vhost. Required.
	URL string

	// Name is shown on the broker's management page. Required.
	Name string

	// Logger hears of every lost and regained connection. Required.
	Logger *slog.Logger
}

// Conn is a connection that is made again whenever it breaks, until Close.
// amqp091-go's own recovery is marked experimental, and it would hide from a
// consumer that its unacknowledged deliveries are no longer its own.
type Conn struct {
	opts   Options
	ctx    context.Context //nolint:containedctx // ends the reconnect loop: the lifetime of this object, not of a call
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	conn    *amqp.Connection // nil while disconnected
	up      chan struct{}    // closed while connected
	blocked bool
}

// Dial starts connecting in the background and returns at once: a service is
// useful without its broker (orders are still accepted), so it does not wait.
func Dial(opts Options) *Conn {
	ctx, cancel := context.WithCancel(context.Background())
	c := &Conn{opts: opts, ctx: ctx, cancel: cancel, done: make(chan struct{}), up: make(chan struct{})}
	go c.keepConnected()
	return c
}

// Close ends the connection and the attempts to regain it.
func (c *Conn) Close() {
	c.cancel()
	<-c.done
}

// Ready returns nil while connected and able to publish.
func (c *Conn) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.conn == nil:
		return ErrNotConnected
	case c.blocked:
		return ErrBlocked
	}
	return nil
}

// Wait returns once connected, or with the error of ctx.
func (c *Conn) Wait(ctx context.Context) error {
	for {
		c.mu.Lock()
		connected, up := c.conn != nil, c.up
		c.mu.Unlock()
		if connected {
			return nil
		}
		select {
		case <-up:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ctx.Done():
			return ErrNotConnected
		}
	}
}

// Channel opens a channel on the current connection; it dies with it.
func (c *Conn) Channel() (*amqp.Channel, error) {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return nil, ErrNotConnected
	}
	return conn.Channel()
}

func (c *Conn) keepConnected() {
	defer close(c.done)
	for c.ctx.Err() == nil {
		conn, err := c.dial()
		if err != nil {
			return // only Close ends the attempts
		}
		c.opts.Logger.Info("connected to the broker", "address", conn.RemoteAddr().String())
		c.hold(conn)
	}
}

func (c *Conn) dial() (*amqp.Connection, error) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = reconnectFirst, reconnectMax
	return backoff.Retry(c.ctx, func() (*amqp.Connection, error) {
		properties := amqp.NewConnectionProperties()
		properties.SetClientConnectionName(c.opts.Name)
		return amqp.DialConfig(c.opts.URL, amqp.Config{
			Heartbeat:  heartbeat,
			Properties: properties,
			Dial:       c.dialTCP,
		})
	},
		backoff.WithBackOff(retry),
		backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(err error, next time.Duration) {
			c.opts.Logger.Warn("broker not reachable", "error", err, "next_try_in", next.Round(time.Millisecond))
		}))
}

// dialTCP gives the handshake a deadline (amqp091 clears it afterwards): a
// broker that accepts connections but does not speak yet must not hold us.
func (c *Conn) dialTCP(network, addr string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(c.ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(dialTimeout))
}

// hold publishes conn to the users of c until it breaks or Close is called.
func (c *Conn) hold(conn *amqp.Connection) {
	closed := conn.NotifyClose(make(chan *amqp.Error, 1))
	blocked := conn.NotifyBlocked(make(chan amqp.Blocking, 8))

	c.mu.Lock()
	c.conn, c.blocked = conn, false
	close(c.up)
	c.mu.Unlock()

	defer func() {
		c.mu.Lock()
		c.conn, c.up = nil, make(chan struct{})
		c.mu.Unlock()
	}()

	for {
		select {
		case <-c.ctx.Done():
			_ = conn.CloseDeadline(time.Now().Add(time.Second)) // a broker that is gone cannot say goodbye
			return
		case err := <-closed:
			c.opts.Logger.Warn("lost the broker", "error", err)
			return
		case b, ok := <-blocked:
			if !ok {
				blocked = nil // closed with the connection; a closed channel would spin this loop
				continue
			}
			c.opts.Logger.Warn("the broker changed its mind about publishers", "blocked", b.Active, "reason", b.Reason)
			c.mu.Lock()
			c.blocked = b.Active
			c.mu.Unlock()
		}
	}
}
