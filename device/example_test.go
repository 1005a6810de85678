package device_test

import (
	"context"
	"fmt"
	"log"

	"github.com/passmuster/muster/device"
)

// A device that has a symmetric key from its factory, and wants a certificate and a
// hub for as long as it runs.
func ExampleAgent_Run() {
	key, err := device.NewKey(device.P256)
	if err != nil {
		log.Fatal(err)
	}
	folder, err := device.Create("press-0042", key) // device.Open at every later start
	if err != nil {
		log.Fatal(err)
	}
	agent, err := device.NewAgent(device.AgentConfig{
		Server: device.Config{
			URL: "https://dps.example.net:8443", IDScope: "0ne004A1B2C", RegistrationID: "press-0042",
			Credential: device.Credential{SymmetricKey: []byte("the device's own key, raw")},
		},
		Folder: folder,
		Events: func(e device.Event) { fmt.Println(e) },
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := agent.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
