package wire

import (
	"net/http"
	"net/url"
	"strings"
)

// route is a path in gin's notation and its segments.
type route struct {
	path     string
	segments []string
}

func (d *Door) addRoute(path string) {
	d.routes = append(d.routes, route{path, strings.Split(path, "/")})
}

// canonical returns the request with one trailing slash cut from its path and the
// fixed words of the route it fits in lower case, and that route; "" if it fits none.
func (d *Door) canonical(r *http.Request) (*http.Request, string) {
	u := *r.URL
	matched := ""
	if u.RawPath == "" {
		u.Path, matched = d.fold(u.Path)
	} else {
		// The router reads RawPath (see NewDoor); Path follows it.
		u.RawPath, matched = d.fold(u.RawPath)
		if path, err := url.PathUnescape(u.RawPath); err == nil {
			u.Path = path
		}
	}
	out := *r
	out.URL = &u
	return &out, matched
}

func (d *Door) fold(path string) (folded, matched string) {
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	segments := strings.Split(path, "/")
	for _, rt := range d.routes {
		if rt.fits(segments) {
			return rt.spell(segments), rt.path
		}
	}
	return path, ""
}

func (rt route) fits(segments []string) bool {
	if len(segments) != len(rt.segments) {
		return false
	}
	for i, s := range rt.segments {
		if !isID(s) && !strings.EqualFold(s, segments[i]) {
			return false
		}
	}
	return true
}

// spell writes the fixed words as the route has them.
func (rt route) spell(segments []string) string {
	out := make([]string, len(segments))
	for i, s := range rt.segments {
		if out[i] = s; isID(s) {
			out[i] = segments[i]
		}
	}
	return strings.Join(out, "/")
}

func isID(segment string) bool { return strings.HasPrefix(segment, ":") }
