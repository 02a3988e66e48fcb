package wait_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/failwell/shared/platform/wait"
)

func TestFor_WaitsUnlessTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		if !wait.For(t.Context(), time.Hour) || time.Since(begun) != time.Hour {
			t.Errorf("it waited for %s", time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begun = time.Now()
		if wait.For(ctx, time.Hour) || time.Since(begun) != time.Minute {
			t.Errorf("the context has ended, and it waited for %s", time.Since(begun))
		}
		if wait.For(ctx, 0) {
			t.Error("a loop would go on after its context has ended")
		}
	})
}

func TestUntil_EndsWhenItIsSoOrCannotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		third := func() (bool, error) { looks++; return looks == 3, nil }
		if err := wait.Until(t.Context(), time.Second, "the third look", third); err != nil || looks != 3 {
			t.Errorf("%d looks, %v", looks, err)
		}
		broken := errors.New("broken")
		if err := wait.Until(t.Context(), time.Second, "it", func() (bool, error) { return false, broken }); !errors.Is(err, broken) {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := wait.Until(ctx, time.Second, "the end of time", func() (bool, error) { return false, nil })
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "the end of time") {
			t.Error(err)
		}
	})
}
