//! The control socket between the host and a template: packets, some with descriptors.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, send, socketpair,
    sockopt::SndBuf,
};
use tokio::io::unix::AsyncFd;

/// The longest packet that a template sends: a fault with its message and traceback.
const PACKET_LIMIT: usize = 64 << 10;

/// The host's end.
#[derive(Debug)]
pub(crate) struct Control {
    socket: AsyncFd<OwnedFd>,
}

/// A packet; empty when the other side has closed.
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Control {
    /// Both ends: the host's, and the one to pass on.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        nix::fcntl::fcntl(&ours, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        // The order to the launcher names every folder to bind: it may be longer than the default allows.
        nix::sys::socket::setsockopt(&ours, SndBuf, &(1 << 20))?;
        // SAFETY: the descriptor is owned, never replaced, and closed only with the registration.
        Ok((Self { socket: unsafe { AsyncFd::register(ours) }? }, theirs))
    }

    /// Send without waiting. A template that doesn't read for so long that the socket is full is broken: the
    /// error says so.
    pub(crate) fn send(&self, packet: &[u8]) -> io::Result<()> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        send(self.socket.get_ref().as_raw_fd(), packet, flags)?;
        Ok(())
    }

    /// The next packet.
    pub(crate) async fn receive(&self) -> io::Result<Packet> {
        loop {
            let mut guard = self.socket.readable().await?;
            if let Ok(packet) = guard.try_io(|socket| receive_now(socket.get_ref())) {
                return packet;
            }
        }
    }
}

fn receive_now(socket: &OwnedFd) -> io::Result<Packet> {
    let mut bytes = vec![0; PACKET_LIMIT];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 4]);
    let (size, fds) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        let mut fds = Vec::new();
        // Whatever number of descriptors a hostile sender put in, all that arrived are owned, so all get closed.
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = part {
                // SAFETY: the kernel has just made these descriptors for us; nobody else owns them.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        (message.bytes, fds)
    };
    bytes.truncate(size);
    Ok(Packet { bytes, fds })
}
