package wait

import (
	"context"
	"fmt"
	"time"
)

// Until looks again and again, with a pause in between, until something is so. An error of
// a look ends it. So does ctx: what, which names what is waited for, is in the error.
func Until(ctx context.Context, every time.Duration, what string, so func() (bool, error)) error {
	for {
		yes, err := so()
		if err == nil && yes {
			return nil
		}
		if err == nil && !For(ctx, every) {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
	}
}
