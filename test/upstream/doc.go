// Package upstream is tested only: Muster stands in front of a real step-ca, which
// scripts/step-ca.sh installs. Devices register through the engine, and through the program
// as an operator has it; the step-ca is stopped, its answers are swallowed, commits fail
// after it has signed, and the program is killed while it waits. Each time nothing that
// step-ca signed is forgotten (INV-S2).
package upstream
