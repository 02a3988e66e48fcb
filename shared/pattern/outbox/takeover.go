package outbox

import "context"

// takeOver makes this process the writer of messages that their writer has not published in
// time: that one is dead, or cut off from its broker, or has more than it can send. It
// returns true when there may be more.
//
// Two processes never take the same row: one skips what the other has locked, and what is
// not locked any more has a new writer. The only clock is the database's. When that was set
// back, the time of a row is ahead of it; far ahead counts as old, or the row would wait
// until the clock is there again.
func (r *Relay) takeOver(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	// From the end that the writer comes to last: when it is alive and slow, the work is
	// shared, and little is published twice.
	tag, err := r.DB.Exec(ctx, `
		WITH overdue AS (
			SELECT writer, id
			  FROM outbox
			 WHERE writer <> $1
			   AND (due_at < now() - $2::interval OR due_at > now() + $3::interval)
			 ORDER BY writer DESC, id DESC
			 LIMIT $4
			   FOR UPDATE SKIP LOCKED)
		UPDATE outbox o
		   SET writer = $1,
		       due_at = now()
		  FROM overdue
		 WHERE o.writer = overdue.writer
		   AND o.id     = overdue.id`,
		r.writer, r.Takeover, refusedMax, batchSize)
	if err != nil || tag.RowsAffected() == 0 {
		return false, err
	}
	r.takenOver.Add(float64(tag.RowsAffected()))
	r.Logger.Warn("outbox: took over messages that their writer did not publish in time", "messages", tag.RowsAffected())
	return tag.RowsAffected() == batchSize, nil
}

// deleteTakenOver deletes confirmed messages that another process has taken over meanwhile.
// While the broker takes longer to confirm than Takeover, each process would otherwise take
// over the rows of the other, publish them again, and lose them again before it could
// delete them. There is no index on the id alone; it is looked for after a takeover only.
func (r *Relay) deleteTakenOver(ctx context.Context, confirmed []int64) error {
	_, err := r.DB.Exec(ctx, `
		DELETE FROM outbox
		 WHERE writer <> $1
		   AND id = ANY($2)`,
		r.writer, confirmed)
	return err
}
