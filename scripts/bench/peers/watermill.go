package main

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	wsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	_ "github.com/jackc/pgx/v5/stdlib"
	rabbit "github.com/rabbitmq/amqp091-go"
)

const (
	outboxTopic = "peer_outbox"
	queue       = "peer_queue"
	bodySize    = 600 // as ours
)

// watermillForwarder fills Watermill's outbox, and measures how long its forwarder
// takes to bring everything into a durable queue, with confirms like ours.
func watermillForwarder(ctx context.Context, n int) (float64, error) {
	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL"))
	if err != nil {
		return 0, err
	}
	defer db.Close()
	log := watermill.NopLogger{}
	schema, offsets := wsql.DefaultPostgreSQLSchema{}, wsql.DefaultPostgreSQLOffsetsAdapter{}

	subscriber, err := wsql.NewSubscriber(wsql.BeginnerFromStdSQL(db), wsql.SubscriberConfig{
		ConsumerGroup: watermill.NewShortUUID(), SchemaAdapter: schema, OffsetsAdapter: offsets, InitializeSchema: true,
	}, log)
	if err != nil {
		return 0, err
	}
	if err := subscriber.SubscribeInitialize(outboxTopic); err != nil {
		return 0, err
	}
	if _, err := db.ExecContext(ctx, `TRUNCATE watermill_`+outboxTopic); err != nil {
		return 0, err
	}
	inner, err := wsql.NewPublisher(wsql.BeginnerFromStdSQL(db), wsql.PublisherConfig{SchemaAdapter: schema}, log)
	if err != nil {
		return 0, err
	}
	publisher := forwarder.NewPublisher(inner, forwarder.PublisherConfig{ForwarderTopic: outboxTopic})
	body := []byte(`"` + strings.Repeat("x", bodySize) + `"`)
	for i := 0; i < n; i += 100 {
		var messages []*message.Message
		for range min(100, n-i) {
			messages = append(messages, message.NewMessage(watermill.NewUUID(), body))
		}
		if err := publisher.Publish(queue, messages...); err != nil {
			return 0, err
		}
	}

	cfg := amqp.NewDurableQueueConfig(os.Getenv("AMQP_URL"))
	cfg.Publish.ConfirmDelivery = true
	out, err := amqp.NewPublisher(cfg, log)
	if err != nil {
		return 0, err
	}
	count, err := counter()
	if err != nil {
		return 0, err
	}
	f, err := forwarder.NewForwarder(subscriber, out, log, forwarder.Config{ForwarderTopic: outboxTopic})
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	for {
		have, err := count()
		if err != nil {
			return 0, err
		}
		if have >= n {
			break
		}
		select {
		case err := <-ended:
			return 0, errors.Join(errors.New("the forwarder stopped"), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	elapsed := time.Since(begun)
	return float64(n) / elapsed.Seconds(), f.Close()
}

// counter declares the queue, empties it, and returns how to count its messages.
func counter() (func() (int, error), error) {
	conn, err := rabbit.Dial(os.Getenv("AMQP_URL"))
	if err != nil {
		return nil, err
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	if _, err := ch.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		return nil, err
	}
	if _, err := ch.QueuePurge(queue, false); err != nil {
		return nil, err
	}
	return func() (int, error) {
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		return q.Messages, err
	}, nil
}
