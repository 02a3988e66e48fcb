package reliableretries

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/rabbit"
	"example.com/failwell/shared/platform/required"
	"example.com/failwell/shared/platform/wait"
)

// Headers we add to a message that is retried or parked. We count tries
// ourselves: the broker's own count differs between versions and leaves out
// what was published anew.
const (
	HeaderTries = "x-retry-tries" // how often handling was tried and failed
	HeaderError = "x-retry-error" // the last error
	HeaderSince = "x-retry-since" // when handling first failed, RFC 3339
)

// handleTimeout bounds one try. It is above every time-out of the calls that a
// handler makes, so that it only ever ends a handler that is stuck.
const handleTimeout = 30 * time.Second

// outagePause is waited between two looks whether an outage is over.
const outagePause = time.Second

// maxReturns is for a message that kills its process before a try can be counted: it would
// kill one replica after the other. The number is far above what an innocent message sees
// while processes around it are being killed.
const maxReturns = 100

// Config says what to consume, how to handle it and how often to try. All of it is
// required except where it says otherwise.
type Config struct {
	Conn *rabbit.Conn

	// Queue to consume from, and Bindings, the message types that go there.
	Queue    string
	Bindings []string

	// Workers is how many messages are handled at the same time.
	Workers int

	// Delays between tries; after the last one has passed and its try has
	// failed, the message is parked. Empty: parked after the first failure.
	Delays []time.Duration

	// Handle does the work. nil acknowledges. An error means: try again later,
	// unless it is Permanent. It must cope with the same message twice. Two kinds of error
	// say nothing about the message, and its try is not counted. Others were in the way
	// (postgres.IsBusy): it comes again later. Our database is away (postgres.IsOutage): it
	// stays with its worker, which tries it again each second. Soon all workers wait like
	// this, so consuming pauses, and goes on when the outage is over.
	Handle func(ctx context.Context, e event.Event) error

	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: none
}

// Permanent marks an error that no retry can fix; the message is parked at once.
// A time-out is never permanent.
func Permanent(err error) error { return backoff.Permanent(err) }

// IsPermanent tells whether err was marked as Permanent.
func IsPermanent(err error) bool {
	_, ok := errors.AsType[*backoff.PermanentError](err)
	return ok
}

// deferDelay is which of the delays a deferred message waits: the second. After the
// first, a thousand messages that wait for one lock would come back every second.
const deferDelay = 1

// Consumer consumes a queue.
type Consumer struct {
	Config
	publisher *rabbit.Publisher
	handled   *prometheus.CounterVec
	consuming *prometheus.GaugeVec
	messages  *prometheus.GaugeVec
}

// NewConsumer returns a consumer that is not running yet. It panics when a field is
// missing.
func NewConsumer(cfg Config) *Consumer {
	required.Fields("reliableretries.Config", map[string]bool{
		"Conn": cfg.Conn != nil, "Queue": cfg.Queue != "", "Bindings": len(cfg.Bindings) > 0, "Workers": cfg.Workers > 0,
		"Handle": cfg.Handle != nil, "Logger": cfg.Logger != nil,
	})
	auto := promauto.With(cfg.Metrics)
	c := &Consumer{Config: cfg, publisher: cfg.Conn.Publisher(), handled: auto.NewCounterVec(prometheus.CounterOpts{
		Name: "failwell_messages_handled_total",
		Help: "Deliveries by what became of them: done, retried, deferred (the try is not counted), parked; paused is a second's wait for our database or the broker.",
	}, []string{"queue", "outcome"}), consuming: auto.NewGaugeVec(prometheus.GaugeOpts{
		Name: "failwell_queue_consumed", Help: "1 while this process consumes from the queue, 0 while it cannot.",
	}, []string{"queue"}), messages: auto.NewGaugeVec(prometheus.GaugeOpts{
		Name: "failwell_queue_messages", Help: "Messages that lie in a queue and its companions, by state: waiting, delayed, parked.",
	}, []string{"queue", "state"})}
	c.consuming.WithLabelValues(c.Queue).Set(0)
	for _, outcome := range []string{"done", "retried", "deferred", "parked", "paused"} {
		c.handled.WithLabelValues(c.Queue, outcome) // at zero: an alarm sees no increase where there was nothing before
	}
	return c
}

// Run consumes until ctx ends and the messages in progress are handled.
//
// Pattern: reliable-retries
func (c *Consumer) Run(ctx context.Context) {
	if c.Metrics != nil {
		go c.observe(ctx) // not waited for: a broker that does not answer must not hold up a stop
	}
	c.Conn.Consume(ctx, rabbit.Consumption{
		Queue:     c.Queue,
		Declare:   c.Declare,
		Workers:   c.Workers,
		Prefetch:  8 * c.Workers,
		Handle:    func(handling context.Context, d amqp.Delivery) error { return c.deliver(ctx, handling, d) },
		Consuming: c.consuming.WithLabelValues(c.Queue).Set,
	})
}

// deliver sees one delivery to its end: acknowledged, or published again somewhere else
// and then acknowledged. When running ends before that, the broker delivers it again. ctx
// goes on after running, so that what was begun is finished. The error is the last try's.
func (c *Consumer) deliver(running, ctx context.Context, d amqp.Delivery) error {
	tries := triesOf(d)
	log := c.Logger.With("queue", c.Queue, "message_id", d.MessageId, "type", d.RoutingKey, "tries", tries+1)
	err := c.handle(ctx, d)
	for postgres.IsOutage(err) {
		log.WarnContext(ctx, "outage, the message waits for its end", "error", err)
		if !c.pause(running, d) {
			return err
		}
		err = c.handle(ctx, d)
	}
	if err == nil {
		err = fault.Point(ctx, fault.ConsumerBeforeAck)
	}
	if err == nil {
		c.finish(ctx, d, "done")
		return nil
	}

	log = log.With("error", err)
	next, outcome := c.Queue+".dead", "parked"
	var delay time.Duration
	switch {
	case postgres.IsBusy(err) && len(c.Delays) > 0:
		outcome, delay = "deferred", c.Delays[min(deferDelay, len(c.Delays)-1)]
	case !IsPermanent(err) && tries < len(c.Delays):
		outcome, delay = "retried", c.Delays[tries]
	}
	if outcome != "parked" {
		next = retryQueue(c.Queue, delay)
	}
	if outcome != "deferred" {
		tries++
	}

	// The broker may take nothing for hours, for want of memory or disk. Handed back, the
	// message would come again at once, and run into the same.
	for publishErr := c.publish(ctx, d, next, tries, err); publishErr != nil; publishErr = c.publish(ctx, d, next, tries, err) {
		log.ErrorContext(ctx, "message could be neither handled nor put aside, it waits", "publish_error", publishErr)
		if !c.pause(running, d) {
			return err
		}
	}
	if outcome == "parked" {
		log.ErrorContext(ctx, "message parked", "dead_letter_queue", next)
	} else {
		log.WarnContext(ctx, "message will be tried again", "in", delay)
	}
	c.finish(ctx, d, outcome)
	return err
}

// pause waits, and tells whether d is still ours to answer: not when the consumer stops,
// nor when the channel that brought it is lost.
func (c *Consumer) pause(running context.Context, d amqp.Delivery) bool {
	c.handled.WithLabelValues(c.Queue, "paused").Inc()
	if !wait.For(running, outagePause) {
		return false
	}
	ch, isChannel := d.Acknowledger.(*amqp.Channel)
	return !isChannel || !ch.IsClosed()
}

// finish acknowledges. It comes last of all: an acknowledgement before the work
// is done loses the message when the process dies in between.
func (c *Consumer) finish(ctx context.Context, d amqp.Delivery, outcome string) {
	if err := d.Ack(false); err != nil {
		c.Logger.WarnContext(ctx, "acknowledgement lost, the message will come again", "message_id", d.MessageId, "error", err)
	}
	c.handled.WithLabelValues(c.Queue, outcome).Inc()
}

func (c *Consumer) handle(ctx context.Context, d amqp.Delivery) (err error) {
	// A message that makes the handler panic would otherwise kill one replica after the other.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if returns, _ := d.Headers["x-delivery-count"].(int64); returns > maxReturns {
		return Permanent(fmt.Errorf("delivered %d times without an answer: does it kill the process that handles it?", returns))
	}
	ctx, cancel := context.WithTimeout(ctx, handleTimeout)
	defer cancel()

	e := event.New()
	if err := e.UnmarshalJSON(d.Body); err != nil {
		return Permanent(fmt.Errorf("not a CloudEvent: %w", err))
	}
	if err := e.Validate(); err != nil {
		return Permanent(fmt.Errorf("not a valid CloudEvent: %w", err))
	}
	return c.Handle(ctx, e)
}

// publish puts a copy of d into a queue and returns once the broker has it.
func (c *Consumer) publish(ctx context.Context, d amqp.Delivery, queue string, tries int, cause error) error {
	headers := amqp.Table{
		HeaderTries: int64(tries),
		HeaderError: truncate(cause.Error()),
		HeaderSince: time.Now().UTC().Format(time.RFC3339),
	}
	if since, ok := d.Headers[HeaderSince].(string); ok {
		headers[HeaderSince] = truncate(since)
	}
	_, err := c.publisher.Publish(ctx, []rabbit.Message{{
		ID: d.MessageId, ContentType: d.ContentType, Body: d.Body, Headers: headers, Queue: queue,
	}})
	return err
}

func triesOf(d amqp.Delivery) int {
	tries, _ := d.Headers[HeaderTries].(int64)
	return int(max(0, tries)) // a stranger may have written it
}

// maxHeader bounds a header, in bytes: all of them travel in one frame.
const maxHeader = 1024

func truncate(s string) string { return s[:min(len(s), maxHeader)] }
