package outbox

import (
	"sync"
	"time"
)

// A message that the broker refused stays in the table and is left alone for
// refusedPause, so that the others get past it: its receiver may be about to start. The
// more there are of them, the longer, by refusedEach: to try them all the time would be
// all that the relay does.
const (
	refusedPause = 250 * time.Millisecond
	refusedEach  = 4 * time.Millisecond
)

// claims are the rows that the loops of this process do not read: another loop is
// publishing them, or the broker refused them a moment ago. They live in memory only. To
// note in the table who publishes what would cost a second write for each message.
type claims struct {
	mu         sync.Mutex
	publishing map[int64]bool
	refused    map[int64]time.Time // until when
}

func newClaims() *claims {
	return &claims{publishing: map[int64]bool{}, refused: map[int64]time.Time{}}
}

// take claims what read returns. Two reads never overlap.
func (c *claims) take(read func(claimed []int64) ([]Envelope, error)) ([]Envelope, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	batch, err := read(c.current())
	for _, m := range batch {
		c.publishing[m.row] = true
	}
	return batch, err
}

// release ends the claims of a batch.
func (c *claims) release(batch []Envelope) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range batch {
		delete(c.publishing, m.row)
	}
}

// postpone keeps what was refused claimed for a while.
func (c *claims) postpone(refused []int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	until := time.Now().Add(refusedPause + time.Duration(len(c.refused)+len(refused))*refusedEach)
	for _, id := range refused {
		c.refused[id] = until
	}
}

func (c *claims) ids() []int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current()
}

// current is never nil: that would be NULL, and no id differs from NULL.
func (c *claims) current() []int64 {
	ids := make([]int64, 0, len(c.publishing)+len(c.refused))
	for id := range c.publishing {
		ids = append(ids, id)
	}
	for id, until := range c.refused {
		if time.Now().Before(until) {
			ids = append(ids, id)
		} else {
			delete(c.refused, id)
		}
	}
	return ids
}
