package outbox

import (
	"time"

	"github.com/jackc/pgx/v5"
)

// The pause before a message that the broker refused is tried again is as long as the
// message has waited already, within these bounds. Its receiver may be about to start; but
// many refused messages must not take all of the relay's time.
const (
	refusedMin = 250 * time.Millisecond
	refusedMax = time.Minute
)

// postpone queues that refused messages are left alone for a while, by other processes as
// well, so that the messages after them get past.
func (r *Relay) postpone(b *pgx.Batch, refused []int64, why error) {
	r.failures.Inc()
	r.Logger.Warn("outbox: the broker refused messages, they are tried again later", "messages", len(refused), "error", why)
	b.Queue(`
		UPDATE outbox
		   SET due_at = now() + LEAST(GREATEST(now() - created_at, $3::interval), $4::interval)
		 WHERE writer = $1
		   AND id = ANY($2)`,
		r.writer, refused, refusedMin, refusedMax)
}
