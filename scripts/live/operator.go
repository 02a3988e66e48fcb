package live

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/ops/commands"
	"example.com/failwell/shared/pattern/distributedtx"
)

// parkedShown is how many parked messages of a queue are looked at, and put back at once.
const parkedShown = 100

// inboxRemembers is the retention of change records, INBOX_RETENTION: what is older may have
// been handled.
const inboxRemembers = 720 * time.Hour

// parked is a message that waits for a person.
type parked struct {
	Queue string `json:"queue"`
	ID    string `json:"id"`
	Tries int    `json:"tries"`
	Error string `json:"error"`
	Since string `json:"since"`
	Body  string `json:"body"`
}

// ops is what an operator's commands do, with our addresses.
func (p *Page) ops() commands.Addresses {
	return func(name string) (string, error) {
		if p.Env[name] == "" {
			return "", fmt.Errorf("%s is not known here", name)
		}
		return p.Env[name], nil
	}
}

// waiting is all that waits for a person.
func (p *Page) waiting(ctx context.Context, _ asked) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	messages, err := p.parked(ctx)
	if err != nil {
		return nil, fmt.Errorf("parked messages: %w", err)
	}
	callbacks, err := p.ops().ParkedCallbacks(ctx)
	if err != nil {
		return nil, fmt.Errorf("callbacks: %w", err)
	}
	prepared, err := p.ops().PreparedTransactions(ctx)
	if err != nil {
		return nil, fmt.Errorf("prepared transactions: %w", err)
	}
	payouts, err := p.ops().UnknownPayouts(ctx)
	if err != nil {
		return nil, fmt.Errorf("payouts: %w", err)
	}
	last, err := p.ops().LastReconciliation(ctx)
	if err != nil {
		return nil, fmt.Errorf("reconciliation: %w", err)
	}
	return map[string]any{"messages": messages, "callbacks": callbacks, "prepared": prepared, "payouts": payouts, "reconciliation": last}, nil
}

// parked looks into each queue of parked messages.
func (p *Page) parked(ctx context.Context) ([]parked, error) {
	broker, err := url.Parse(p.Env["AMQP_URL"])
	if err != nil {
		return nil, err
	}
	host := url.PathEscape("/")
	if name := path.Base(broker.Path); name != "/" && name != "." {
		host = url.PathEscape(name)
	}
	var queues []struct{ Name string }
	if err := p.read(ctx, p.RabbitAPI+"/api/queues/"+host+"?columns=name", &queues); err != nil {
		return nil, err
	}
	all := []parked{}
	for _, q := range queues {
		queue, dead := strings.CutSuffix(q.Name, ".dead")
		if !dead {
			continue
		}
		found, err := p.ops().ParkedMessages(ctx, queue, parkedShown)
		if err != nil {
			return nil, err
		}
		for _, m := range found {
			all = append(all, parked{queue, m.MessageID, m.Tries, m.Error, m.Since, string(m.Body)})
		}
	}
	return all, nil
}

// resolve does what a person has decided.
func (p *Page) resolve(ctx context.Context, in asked) (out any, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out = struct{}{}
	switch in.Do {
	case "replay":
		out, err = p.ops().ReplayMessages(ctx, commands.ReplayParked{
			Queue: in.Queue, Limit: parkedShown, Message: in.ID, Error: in.Error, Before: time.Duration(in.Seconds) * time.Second, MaxAge: inboxRemembers,
		})
	case "call back":
		id, not := uuid.Parse(in.ID)
		if err = not; err == nil {
			err = p.ops().ReplayCallback(ctx, id)
		}
	case "commit", "abort":
		out, err = p.ops().ResolvePrepared(ctx, in.ID, distributedtx.Decision(in.Do))
	case "sent", "failed":
		err = p.ops().ResolvePayout(ctx, in.ID, in.Do)
	case "reconcile":
		out, err = p.ops().Reconcile(ctx)
	default:
		err = fmt.Errorf("%w: %q", errAsked, in.Do)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAsked, err)
	}
	p.note(ctx, Lab, "client", strings.TrimSpace("a person decides: "+in.Do+" "+in.Queue+" "+in.ID))
	return out, nil
}
