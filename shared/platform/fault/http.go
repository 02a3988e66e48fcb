package fault

import (
	"net/http"

	"github.com/go-json-experiment/json"

	"example.com/failwell/shared/platform/problem"
)

// Handler serves the control of the fault points: GET lists, PUT arms, DELETE
// disarms all. Mount it under /lab/faults, and only where LAB_FAULTS is set:
// a client that reaches it can kill the process.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet:
		case http.MethodPut:
			if err := armFrom(w, r); err != nil {
				refuse(w, http.StatusUnprocessableEntity, err.Error())
				return
			}
		case http.MethodDelete:
			Disarm()
		default:
			w.Header().Set("Allow", "GET, PUT, DELETE")
			refuse(w, http.StatusMethodNotAllowed, "GET, PUT or DELETE")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.MarshalWrite(w, List())
	})
}

// armFrom is strict: an experiment whose "delay_ms" is misspelt would run
// without its fault and report that the system withstood it.
func armFrom(w http.ResponseWriter, r *http.Request) error {
	var o Order
	if err := json.UnmarshalRead(http.MaxBytesReader(w, r.Body, 4096), &o, json.RejectUnknownMembers(true)); err != nil {
		return err
	}
	return Arm(o)
}

// refuse answers with the error that the client has made. If the client is gone, there is no one to tell.
func refuse(w http.ResponseWriter, status int, detail string) {
	_ = problem.New(status, "fault-points", http.StatusText(status), detail).Write(w)
}
