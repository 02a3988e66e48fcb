package rabbit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// ErrNotConnected means: there is no connection to the broker at the moment. Nothing was sent.
var ErrNotConnected = errors.New("rabbit: not connected to the broker")

// ErrBlocked means: the broker is out of memory or disk and reads nothing from
// publishers. A publish now would hang in the socket; nothing was sent.
var ErrBlocked = errors.New("rabbit: the broker has blocked publishers")

// Options configures a connection.
type Options struct {
	// URL is amqp://user:password@host:port/vhost, or several of a cluster's nodes, with
	// commas between them: when one is not reachable, the next is tried. See CheckURL. Required.
	URL string

	// Name is shown on the broker's management page. Required.
	Name string

	// Logger hears of every lost and regained connection. Required.
	Logger *slog.Logger
}

// Conn is a service's way to the broker: two connections that come back whenever
// they break, until Close. A broker that is short of memory or disk reads nothing
// more from a connection that publishes. Were acknowledgements to travel on the
// same one, they would be stuck with it, and the full queues that brought the
// broker there could not be emptied. So one publishes, and the other consumes.
type Conn struct {
	opts                  Options
	publishing, consuming *link
}

// Dial starts connecting in the background and returns at once: a service is
// useful without its broker (orders are still accepted), so it does not wait.
func Dial(opts Options) *Conn {
	to := func(purpose string) *link {
		o := opts
		o.Name += ", " + purpose
		return dialLink(o)
	}
	return &Conn{opts: opts, publishing: to("publishing"), consuming: to("consuming")}
}

// knownParameters are those that a URL may have; the library passes over any other.
var knownParameters = []string{
	"certfile", "keyfile", "cacertfile", "server_name_indication", "auth_mechanism", "heartbeat", "connection_timeout", "channel_max",
}

// CheckURL tells what is wrong with Options.URL. Call it at the start: a connection is tried
// again forever. It does not repeat the text, which holds passwords.
func CheckURL(text string) error {
	for one := range strings.SplitSeq(text, ",") {
		u, err := url.Parse(one)
		if err == nil {
			_, err = amqp.ParseURI(one)
		}
		if err == nil {
			_, err = strconv.ParseUint(cmp.Or(u.Port(), "0"), 10, 16)
		}
		if err != nil || u.Host == "" || u.Fragment != "" || strings.Count(u.EscapedPath(), "/") > 1 {
			return errors.New("must read amqp://user:password@host:port/vhost, or several of these with commas between them (a comma or slash in a name is written %2C, %2F)")
		}
		for name := range u.Query() {
			if !slices.Contains(knownParameters, name) {
				return fmt.Errorf("has a parameter that is none of %s", strings.Join(knownParameters, ", "))
			}
		}
	}
	return nil
}

// Close ends both connections and the attempts to regain them.
func (c *Conn) Close() {
	var both sync.WaitGroup
	both.Go(c.publishing.close)
	both.Go(c.consuming.close)
	both.Wait()
}

// Ready returns nil while connected, able to publish and to consume.
func (c *Conn) Ready() error {
	if err := c.publishing.ready(); err != nil {
		return fmt.Errorf("to publish: %w", err)
	}
	if err := c.consuming.ready(); err != nil {
		return fmt.Errorf("to consume: %w", err)
	}
	return nil
}

// Wait returns once connected, or with the error of ctx.
func (c *Conn) Wait(ctx context.Context) error {
	if err := c.publishing.wait(ctx); err != nil {
		return err
	}
	return c.consuming.wait(ctx)
}

// Channel opens a channel to declare, to look or to consume; it dies with its
// connection. To publish there is Publisher.
func (c *Conn) Channel() (*amqp.Channel, error) { return c.consuming.channel() }

// closeWithTimeout closes a channel that is given up. It does not wait long for that, and a
// failure adds nothing.
func closeWithTimeout(ch *amqp.Channel) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_, _ = ask(ctx, func() (*amqp.Channel, error) { return ch, ch.Close() }, func(*amqp.Channel) {})
}

// ask waits until ctx ends for the answer to a question to the broker: the library's take
// no deadline, and a broker that does not read will not answer. late gets an answer that
// comes after that.
func ask(ctx context.Context, question func() (*amqp.Channel, error), late func(*amqp.Channel)) (*amqp.Channel, error) {
	var ch *amqp.Channel
	var err error
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		ch, err = question()
	}()
	select {
	case <-answered:
		return ch, err
	case <-ctx.Done():
		go func() {
			if <-answered; err == nil {
				late(ch)
			}
		}()
		return nil, fmt.Errorf("%w: %w", ErrNotConnected, ctx.Err())
	}
}
