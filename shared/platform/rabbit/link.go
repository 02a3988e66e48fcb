package rabbit

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// A dead peer is noticed after two missed heartbeats.
	heartbeat   = 5 * time.Second
	dialTimeout = 5 * time.Second

	// A broker that is well takes what we write from the socket at once.
	writeTimeout = 5 * time.Second

	// closeTimeout is how long a goodbye may take, of a channel or of a connection.
	closeTimeout = time.Second

	// The broker takes several seconds to boot; there is no use in hammering it.
	reconnectFirst = 100 * time.Millisecond
	reconnectMax   = 2 * time.Second
)

// link is one connection, made again whenever it breaks, until close.
// amqp091-go's own recovery is marked experimental, and it would hide from a
// consumer that its unacknowledged deliveries are no longer its own.
type link struct {
	opts   Options
	ctx    context.Context //nolint:containedctx // ends the reconnect loop: the lifetime of this object, not of a call
	cancel context.CancelFunc
	done   chan struct{}
	dials  int // so far

	mu      sync.Mutex
	conn    *amqp.Connection // nil while disconnected
	up      chan struct{}    // closed while connected
	blocked bool
}

func dialLink(opts Options) *link {
	ctx, cancel := context.WithCancel(context.Background())
	l := &link{opts: opts, ctx: ctx, cancel: cancel, done: make(chan struct{}), up: make(chan struct{})}
	go l.keepConnected()
	return l
}

// close ends the connection and the attempts to regain it.
func (l *link) close() {
	l.cancel()
	<-l.done
}

// ready returns nil while connected and able to publish.
func (l *link) ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.conn == nil:
		return ErrNotConnected
	case l.blocked:
		return ErrBlocked
	}
	return nil
}

// wait returns once connected, or with the error of ctx.
func (l *link) wait(ctx context.Context) error {
	for {
		l.mu.Lock()
		connected, up := l.conn != nil, l.up
		l.mu.Unlock()
		if connected {
			return nil
		}
		select {
		case <-up:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.ctx.Done():
			return ErrNotConnected
		}
	}
}

// channel opens a channel on the current connection; it dies with it.
func (l *link) channel() (*amqp.Channel, error) {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn == nil {
		return nil, ErrNotConnected
	}
	return conn.Channel()
}

func (l *link) keepConnected() {
	defer close(l.done)
	for l.ctx.Err() == nil {
		conn, tcp, err := l.dial()
		if err != nil {
			return // only close ends the attempts
		}
		l.opts.Logger.Info("connected to the broker", "as", l.opts.Name, "address", conn.RemoteAddr().String())
		l.serve(conn, tcp)
	}
}

// dial also returns what the connection runs over, for when no goodbye is possible.
func (l *link) dial() (conn *amqp.Connection, tcp net.Conn, err error) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = reconnectFirst, reconnectMax
	brokers := strings.Split(l.opts.URL, ",")
	conn, err = backoff.Retry(l.ctx, func() (*amqp.Connection, error) {
		properties := amqp.NewConnectionProperties()
		properties.SetClientConnectionName(l.opts.Name)
		at := brokers[l.dials%len(brokers)]
		l.dials++ // the next one is another
		return amqp.DialConfig(at, amqp.Config{
			Heartbeat:  heartbeat,
			Properties: properties,
			Dial: func(network, addr string) (net.Conn, error) {
				var err error
				tcp, err = l.dialTCP(network, addr)
				return tcp, err
			},
		})
	},
		backoff.WithBackOff(retry),
		backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(err error, next time.Duration) {
			l.opts.Logger.Warn("broker not reachable", "as", l.opts.Name, "error", err, "next_try_in", next.Round(time.Millisecond))
		}))
	return conn, tcp, err
}

// dialTCP gives the handshake a deadline (amqp091 clears it afterwards): a
// broker that accepts connections but does not speak yet must not hold us.
func (l *link) dialTCP(network, addr string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(l.ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return writeDeadlineConn{conn}, conn.SetDeadline(time.Now().Add(dialTimeout))
}

// writeDeadlineConn is a connection whose writes end. The library's have no deadline, and
// hold a lock meanwhile: behind one that a broker does not read, every publish and
// every acknowledgement would wait forever, and so would a stop.
type writeDeadlineConn struct{ net.Conn }

func (c writeDeadlineConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// serve gives conn to the users of l until it breaks or close is called.
func (l *link) serve(conn *amqp.Connection, tcp net.Conn) {
	closed := conn.NotifyClose(make(chan *amqp.Error, 1))
	blocked := conn.NotifyBlocked(make(chan amqp.Blocking, 8))

	l.mu.Lock()
	l.conn, l.blocked = conn, false
	close(l.up)
	l.mu.Unlock()

	defer func() {
		l.mu.Lock()
		l.conn, l.up = nil, make(chan struct{})
		l.mu.Unlock()
	}()

	for {
		select {
		case <-l.ctx.Done():
			// A broker that is gone, or does not read, cannot say goodbye. Not
			// CloseDeadline: each heartbeat that still arrives puts its deadline off.
			defer time.AfterFunc(closeTimeout, func() { _ = tcp.Close() }).Stop()
			_ = conn.Close()
			return
		case err := <-closed:
			l.opts.Logger.Warn("lost the broker", "as", l.opts.Name, "error", err)
			return
		case b, ok := <-blocked:
			if !ok {
				blocked = nil // closed with the connection; a closed channel would spin this loop
				continue
			}
			l.opts.Logger.Warn("the broker changed its mind about publishers", "as", l.opts.Name, "blocked", b.Active, "reason", b.Reason)
			l.mu.Lock()
			l.blocked = b.Active
			l.mu.Unlock()
		}
	}
}
