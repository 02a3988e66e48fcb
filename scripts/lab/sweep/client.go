package sweep

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/wait"
)

// request is a scene in which a client sends a request.
//
//   - It retries: it asks with the same key until the answer is definite, and once
//     more when all is quiet. Where the fault is a delay, it does not wait for it:
//     a second request is sent while the first one hangs.
//   - It is gone: one request, and no client reads the answer. Where the fault is
//     a delay, it hangs up in the middle.
func (r *run) request(url string, body []byte) scene {
	answers := &shop.Answers{URL: url, Key: uuid.NewString()}
	insist := func(ctx context.Context) error {
		a, _, err := r.Shop.InsistAt(ctx, url, answers.Key, body, answers.Heard)
		if err == nil && a.Status >= http.StatusMultipleChoices {
			err = fmt.Errorf("answered %s", a)
		}
		return err
	}
	if r.Client == Gone {
		return scene{act: func(ctx context.Context) error {
			r.goneAfter(ctx, func(ctx context.Context) {
				_, _ = r.Shop.Post(ctx, url, answers.Key, body) // no client reads the answer
			})
			return nil
		}}
	}
	askAgain := func(ctx context.Context) error {
		if err := insist(ctx); err != nil {
			return err
		}
		if _, differing := answers.Verdict(); len(differing) > 0 {
			return fmt.Errorf("%w:\n%s", ErrOtherAnswer, strings.Join(differing, "\n"))
		}
		return nil
	}
	if r.Fault == fault.Delay {
		return scene{r.twoAtOnce(insist), askAgain}
	}
	return scene{insist, askAgain}
}

// goneAfter asks once. Where the fault is a delay, it hangs up while the process that
// was asked is held up.
func (r *run) goneAfter(ctx context.Context, ask func(context.Context)) {
	if r.Fault != fault.Delay {
		ask(ctx)
		return
	}
	hanging, hangUp := context.WithCancel(ctx)
	defer hangUp()
	asked := begin(func() error { ask(hanging); return nil })
	r.struckOr(ctx, asked)
	wait.For(ctx, hangUpAfter)
	hangUp()
	<-asked.done
}

// twoAtOnce asks again while the first request hangs.
func (r *run) twoAtOnce(ask func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		first := begin(func() error { return ask(ctx) })
		r.struckOr(ctx, first)
		second := ask(ctx)
		<-first.done
		return errors.Join(first.err, second)
	}
}

// struckOr waits until the fault has struck, or until the request was answered: the
// point may lie behind the answer.
func (r *run) struckOr(ctx context.Context, asked *asked) {
	_ = wait.Until(ctx, look, "the fault to strike", func() (bool, error) {
		select {
		case <-asked.done:
			return true, nil
		default:
			return r.struck(ctx), nil
		}
	})
}

// asked is a request that is on its way. err is known when done is closed.
type asked struct {
	done chan struct{}
	err  error
}

func begin(ask func() error) *asked {
	a := &asked{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.err = ask()
	}()
	return a
}
