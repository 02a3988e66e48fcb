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
	"time"

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

	// Exchange is the topic exchange between the services of a system. Two systems on one
	// virtual host need two. Default: the constant Exchange.
	Exchange string

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
	opts.Exchange = cmp.Or(opts.Exchange, Exchange)
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
// again for ever. It does not repeat the text, which holds passwords.
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

// Exchange is the exchange between the services.
func (c *Conn) Exchange() string { return c.opts.Exchange }

// Channel opens a channel to declare, to look or to consume; it dies with its
// connection. To publish there is Publisher.
func (c *Conn) Channel() (*amqp.Channel, error) { return c.consuming.channel() }

// closeWithTimeout closes a channel, and does not wait long for it: Close is a question to
// the broker, and one that does not read will not answer. The channel is given up
// either way; the question ends with its answer, or with the connection.
func closeWithTimeout(ch *amqp.Channel) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = ch.Close() // it is given up: a failure adds nothing
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
	}
}
