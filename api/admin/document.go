package admin

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

type document struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

// addDocument comes last: the document is made once, of all routes.
func (d *door) addDocument() {
	var text []byte
	add(d, route{"get-openapi", http.MethodGet, "/openapi.json", public, "openapi", "This document, OpenAPI 3.1", false},
		func(context.Context, *struct{}) (*document, error) {
			return &document{ContentType: "application/json", Body: text}, nil
		})
	api := d.api.OpenAPI()
	answer := api.Paths["/openapi.json"].Get.Responses["200"]
	answer.Headers = nil
	answer.Content = map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}}}
	// huma's own error shape, which no answer has.
	schemas := api.Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	var err error
	if text, err = json.Marshal(api); err != nil {
		panic("internal error: OpenAPI document: " + err.Error())
	}
}
