package fault

import (
	"encoding/json"
	"net/http"
)

// Handler serves the control of the fault points: GET lists, PUT arms, DELETE
// disarms all. Mount it under /lab/faults, and only where LAB_FAULTS is set:
// whoever reaches it can kill the process.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet:
		case http.MethodPut:
			var o Order
			err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&o)
			if err == nil {
				err = Arm(o)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusUnprocessableEntity)
				return
			}
		case http.MethodDelete:
			Disarm()
		default:
			w.Header().Set("Allow", "GET, PUT, DELETE")
			http.Error(w, "GET, PUT or DELETE", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(List()) // the caller is gone; there is nobody to tell
	})
}
