// A TPM of tss.js behind a unix socket, as swtpm has it: one connection for each command.
// Everything above it is Azure's own; its native parts are for Windows alone.
'use strict';
const net = require('net');
const { Tpm } = require('tss.js');

class SocketDevice {
  constructor(path) { this.path = path; }

  connect(done) {
    setImmediate(done, null);
    return null;
  }

  dispatchCommand(command, done) {
    const parts = [];
    const socket = net.connect(this.path, () => socket.write(command));
    socket.on('data', (part) => {
      parts.push(part);
      const said = Buffer.concat(parts);
      if (said.length < 6 || said.length < said.readUInt32BE(2)) return;
      socket.destroy();
      done(null, said);
    });
    socket.on('error', (err) => done(err, null));
  }

  close() {}
}

exports.at = (path) => {
  const tpm = new Tpm(false);
  tpm.device = new SocketDevice(path);
  return tpm;
};
