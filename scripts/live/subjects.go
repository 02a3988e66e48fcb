package live

import (
	"slices"
	"time"
)

// subjectsKept is of how many orders, refunds and payouts the page has a list.
const subjectsKept = 50

// subject is something that has a timeline.
type subject struct {
	ID     string    `json:"id"`
	Kind   string    `json:"kind"`
	Status string    `json:"status"`
	At     time.Time `json:"at"`
}

// note keeps the list of what has a timeline.
func (r *record) note(row Row, at time.Time) {
	s := subject{At: at}
	switch row.Table {
	case "orders":
		s.Kind, s.ID, s.Status = "order", "ord_"+row.col("id"), row.col("status")
	case "refunds":
		s.Kind, s.ID, s.Status = "refund", "rfd_"+row.col("id"), row.col("recovery_point")+" "+row.col("decision")
	case "payouts":
		s.Kind, s.ID, s.Status = "payout", "pyo_"+row.col("id"), row.col("recovery_point")+", "+row.col("outcome")
	case "sagas":
		if phase := row.col("phase"); row.Op == "UPDATE" && (phase == "completed" || phase == "compensated") {
			r.ended++
		}
		return
	default:
		return
	}
	if i := slices.IndexFunc(r.subjects, func(known subject) bool { return known.ID == s.ID }); i >= 0 {
		r.subjects[i].Status = s.Status
		return
	}
	r.subjects = append(r.subjects, s)
	if len(r.subjects) > subjectsKept {
		r.subjects = r.subjects[1:]
	}
}

// list returns the newest subjects first, and how many orders have ended.
func (r *record) list() ([]subject, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	newest := slices.Clone(r.subjects)
	slices.Reverse(newest)
	return newest, r.ended
}
