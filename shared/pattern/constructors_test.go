// Package pattern_test holds what is the same of all patterns.
package pattern_test

import (
	"fmt"
	"strings"
	"testing"

	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/pattern/completer"
	"example.com/failwell/shared/pattern/distributedtx"
	"example.com/failwell/shared/pattern/garbagecollection"
	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/outoforder"
	"example.com/failwell/shared/pattern/reconciliation"
	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/pattern/storethenreference"
)

// What is forgotten in a Config is named at the start. A nil pointer would be met at the
// first use: by a reconciler, at its first run, which may come at night.
func TestConstructors_NameEveryFieldThatIsMissing(t *testing.T) {
	t.Parallel()
	for config, construct := range map[string]struct {
		with    func()
		missing string
	}{
		"callback.Config":           {func() { callback.NewWorker(callback.Config{}) }, "DB, Delays, Logger, Poll"},
		"completer.Config":          {func() { completer.New(completer.Config{}) }, "DB, Every, Finish, Lease, Logger"},
		"distributedtx.Config":      {func() { distributedtx.NewCoordinator(distributedtx.Config{}) }, "DB, LocalPrefix, Logger, Participants, Sweep, Timeout"},
		"garbagecollection.Config":  {func() { garbagecollection.New(garbagecollection.Config{}) }, "DB, Every, Holder, Logger, Rules"},
		"outbox.Config":             {func() { outbox.NewRelay(outbox.New("/tests", "a"), outbox.Config{}) }, "DB, Logger, Publisher"},
		"outoforder.Config":         {func() { outoforder.NewLog(outoforder.Config{}) }, "Apply, DB, Logger, Overdue, Poll"},
		"reconciliation.Config":     {func() { reconciliation.New(reconciliation.Config{}) }, "Changed, DB, Expected, Holder, Judge, Logger, Owners, Poll, Sources"},
		"reliableretries.Config":    {func() { reliableretries.NewConsumer(reliableretries.Config{}) }, "Bindings, Conn, Handle, Logger, Queue, Workers"},
		"storethenreference.Config": {func() { storethenreference.New(storethenreference.Config{}) }, "Bucket, Dir, Grace"},
	} {
		t.Run(config, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if got, want := fmt.Sprint(recover()), config+" lacks "+construct.missing; got != want {
					t.Errorf("%s, want: %s", strings.Split(got, "\n")[0], want)
				}
			}()
			construct.with()
		})
	}
}
