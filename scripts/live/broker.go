package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// firehose listens to everything that is published to the broker and delivered by it,
// until ctx ends or the connection breaks. The broker itself copies it to the exchange
// amq.rabbitmq.trace while tracing is on, which it is only while we listen. It does not
// copy acknowledgements.
func firehose(ctx context.Context, broker, api string, ready func(), tell func(...Event)) error {
	conn, err := amqp.Dial(broker)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // only read
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	// Should we stop reading, the broker throws the oldest away.
	q, err := ch.QueueDeclare("", false, true, true, false, amqp.Table{"x-max-length": 10_000})
	if err != nil {
		return err
	}
	for _, key := range []string{"publish.#", "deliver.#"} {
		if err := ch.QueueBind(q.Name, key, "amq.rabbitmq.trace", false, nil); err != nil {
			return err
		}
	}
	copies, err := ch.Consume(q.Name, "", true, true, false, false, nil)
	if err != nil {
		return err
	}
	if err := trace(ctx, api, true); err != nil {
		return err
	}
	defer trace(context.WithoutCancel(ctx), api, false) //nolint:errcheck // the broker may be gone
	ready()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case d, ok := <-copies:
			if !ok {
				return errors.New("the connection to the broker is gone")
			}
			if e, ours := copied(d); ours {
				tell(e)
			}
		}
	}
}

// trace turns the copying on or off.
func trace(ctx context.Context, api string, on bool) error {
	if err := ask(ctx, http.MethodPut, api+"/api/vhosts/%2F", map[string]bool{"tracing": on}, nil); err != nil {
		return fmt.Errorf("the broker does not trace: its management API: %w", err)
	}
	return nil
}

// copied makes an event of a copy. Its routing key says what was done and where.
func copied(d amqp.Delivery) (Event, bool) {
	var m struct{ ID, Source, Type, Subject string }
	if json.Unmarshal(d.Body, &m) != nil || m.ID == "" {
		return Event{}, false // none of the services' messages
	}
	e := Event{
		At: time.Now(), Text: m.Type, More: string(d.Body),
		refs: idsIn(string(d.Body)), links: [][]string{messageFamily(m.ID, string(d.Body))},
	}
	what, where, _ := strings.Cut(d.RoutingKey, ".")
	properties, _ := d.Headers["properties"].(amqp.Table)
	headers, _ := properties["headers"].(amqp.Table)
	if what == "deliver" {
		if strings.HasSuffix(where, ".dead") {
			return e, false // a person looks at what is parked
		}
		e.Kind, e.From, e.Lane = Deliver, "broker", ownerOf(where)
		if again, _ := d.Headers["redelivered"].(int32); again != 0 {
			e.Kind = Redeliver
		}
		if tries, ok := headers["x-retry-tries"]; ok {
			e.Text += fmt.Sprintf(", after %v failed tries", tries)
		}
		return e, true
	}
	e.Kind, e.From, e.Lane = Publish, strings.TrimPrefix(m.Source, "/"), "broker"
	// A message that could not be handled is published once more, straight to a queue.
	if keys, _ := d.Headers["routing_keys"].([]any); where == "" && len(keys) > 0 {
		queue := fmt.Sprint(keys[0])
		e.Kind, e.From, e.Text = Retry, ownerOf(queue), fmt.Sprintf("%s, put aside in %s: %v", m.Type, queue, headers["x-retry-error"])
		if strings.HasSuffix(queue, ".dead") {
			e.Kind, e.Text = Parked, fmt.Sprintf("%s, parked in %s: %v", m.Type, queue, headers["x-retry-error"])
		}
	}
	return e, true
}

// ownerOf is the service that consumes a queue.
func ownerOf(queue string) string {
	owner, _, _ := strings.Cut(queue, ".")
	return owner
}

// messageFamily is a message's id and what it is about. Not all ids in its body: the
// news of the receipts is about many orders.
func messageFamily(id, body string) []string {
	var m struct{ Subject string }
	_ = json.Unmarshal([]byte(body), &m) // without a subject it is only itself
	return append([]string{id}, idsIn(m.Subject)...)
}
