package commands

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/platform/rabbit"
)

// DLQ is about the messages that were parked after all their tries.
type DLQ struct {
	List   ListParked   `cmd:"" help:"Show the parked messages of a queue."`
	Replay ReplayParked `cmd:"" help:"Put the parked messages of a queue back into it."`
}

// ListParked shows them.
type ListParked struct {
	Queue string `arg:"" help:"The queue, without its .dead."`
	Limit int    `default:"100" help:"At most so many."`
}

// ReplayParked puts them back.
type ReplayParked struct {
	Queue string `arg:"" help:"The queue, without its .dead."`
	Limit int    `default:"1000" help:"At most so many."`

	Message string        `help:"Only the one with this id."`
	Error   string        `help:"Only those whose error contains this text."`
	Before  time.Duration `help:"Only those whose first failure is at least so long ago."`
	MaxAge  time.Duration `default:"720h" help:"Leave what is older: INBOX_RETENTION of the receiver, which does not know any more whether it was handled."`
}

// ParkedMessages are up to limit of those that are parked behind a queue.
func (a Addresses) ParkedMessages(ctx context.Context, queue string, limit int) ([]reliableretries.Parked, error) {
	conn, err := a.broker(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return reliableretries.List(conn, queue, limit)
}

// Run shows what is parked.
func (c ListParked) Run(ctx context.Context) error {
	parked, err := here.ParkedMessages(ctx, c.Queue, c.Limit)
	if err != nil {
		return err
	}
	for _, p := range parked {
		fmt.Printf("%s  tries %d  since %s\n  error: %s\n  %s\n", p.MessageID, p.Tries, p.Since, p.Error, p.Body)
	}
	fmt.Printf("%d parked in %s.dead\n", len(parked), c.Queue)
	return nil
}

// ReplayMessages puts parked messages back into their queue.
func (a Addresses) ReplayMessages(ctx context.Context, c ReplayParked) (done reliableretries.Replayed, err error) {
	conn, err := a.broker(ctx)
	if err != nil {
		return done, err
	}
	defer conn.Close()
	return reliableretries.Replay(ctx, conn, c.Queue, reliableretries.Choice{Limit: c.Limit, MaxAge: c.MaxAge, Only: c.chosen})
}

// chosen tells whether a message is one of those that were asked for.
func (c ReplayParked) chosen(p reliableretries.Parked) bool {
	since, err := time.Parse(time.RFC3339, p.Since)
	old := c.Before == 0 || err == nil && time.Since(since) >= c.Before
	return (c.Message == "" || p.MessageID == c.Message) && strings.Contains(p.Error, c.Error) && old
}

// Run puts what is parked back.
func (c ReplayParked) Run(ctx context.Context) error {
	done, err := here.ReplayMessages(ctx, c)
	fmt.Printf("%d put back into %s\n", done.Moved, c.Queue)
	if done.TooOld > 0 {
		fmt.Printf("%d left, older than %s: see --help\n", done.TooOld, c.MaxAge)
	}
	return err
}

func (a Addresses) broker(ctx context.Context) (*rabbit.Conn, error) {
	address, err := a("AMQP_URL")
	if err != nil {
		return nil, err
	}
	if err := rabbit.CheckURL(address); err != nil {
		return nil, fmt.Errorf("AMQP_URL %w", err)
	}
	conn := rabbit.Dial(rabbit.Options{URL: address, Name: "ops", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := conn.Wait(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("no broker at AMQP_URL: %w", err)
	}
	return conn, nil
}
