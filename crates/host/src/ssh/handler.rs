//! One connection as russh tells of it: who comes in, and what its channels ask for.

use super::client::{Client, MOST_CHANNELS, MOST_LISTENERS, Slot};
use super::forward::Room;
use super::inbox::{TRICKLE_BYTES, TRICKLE_EVERY, WINDOW_BYTES};
use super::{Door, Refusal};
use crate::guest_link::{Command, OWN_PROGRAM, Pty};
use russh::keys::Certificate;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, Response, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, MethodKind, MethodSet, Pty as Mode, Sig};
use sublet_wire::jobs::SUBSYSTEM;

/// Variables a client may set, and how long each may be.
const MOST_VARIABLES: usize = 64;
const MOST_VARIABLE_BYTES: usize = 4096;
impl<D: Door> Handler for Client<D> {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        self.connection.auth.asked();
        Ok(None)
    }

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, Self::Error> {
        self.connection.auth.asked();
        Ok(Auth::reject())
    }

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        _offer: russh::server::PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        // Plain key or certificate cannot be told apart yet.
        self.connection.auth.asked();
        Ok(Auth::Accept)
    }

    async fn auth_publickey(&mut self, _user: &str, _key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        self.connection.auth.asked();
        self.server.note(&self.connection, &Refusal::PlainKey);
        // Clients offer the plain key first and its certificate next.
        Ok(Auth::reject())
    }

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, Self::Error> {
        self.connection.auth.asked();
        if let Err(refusal) = self.let_in(user, certificate).await {
            self.server.note(&self.connection, &refusal);
            self.refused = Some(refusal);
        }
        // A plain refusal makes the client leave before any reason reaches it. Instead it comes into
        // an empty room: without a tenant no channel opens, and the next call hangs up.
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        self.connection.auth.over();
        if self.connection.tenant().is_some() && self.refused.is_none() {
            return Ok(());
        }
        self.connection.refused.cancel();
        let words = self.refused.take().map_or_else(String::new, |refusal| in_words(&refusal));
        session.disconnect(Disconnect::NoMoreAuthMethodsAvailable, &words, "")
    }

    /// Lets nobody in: a client that has nothing better to offer is told what it lacks.
    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        self.connection.auth.asked();
        if response.is_some() {
            let only_keys = MethodSet::from(&[MethodKind::PublicKey][..]);
            return Ok(Auth::Reject { proceed_with_methods: Some(only_keys), partial_success: false });
        }
        let refusal = if self.connection.auth.was_refused() { Refusal::OutOfTime } else { Refusal::PlainKey };
        let instructions = format!("sublet: {}", in_words(&refusal));
        Ok(Auth::Partial { name: "".into(), instructions: instructions.into(), prompts: (&[][..]).into() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.connection.tenant().is_none() || self.count(false) >= MOST_CHANNELS {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let id = channel.id();
        // The reading half is dropped: what comes in is taken from the callbacks below.
        let (_, write) = channel.split();
        self.channels.insert(id, Slot::session(Room::new(&self.connection.held), write));
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.connect(channel, &[host, &port.to_string()], reply).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.connect(channel, &[path], reply).await;
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Self::Error> {
        self.listeners.retain(|_, listener| !listener.over.is_cancelled());
        let Some(forward) = self.forward().filter(|_| self.listeners.len() < MOST_LISTENERS) else { return Ok(false) };
        let listening = forward.listen(address, *port, session.handle()).await;
        match listening {
            Ok((bound, listener)) => {
                *port = bound;
                self.listeners.insert((address.to_owned(), bound), listener);
                Ok(true)
            }
            Err(error) => {
                tracing::debug!(peer = self.connection.peer, error, "a port cannot be listened on");
                Ok(false)
            }
        }
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        Ok(self.listeners.remove(&(address.to_owned(), port)).is_some())
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _max_packet_size: u32,
        _window_size: u32,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let room = self.connection.room(id);
        self.channels.insert(id, Slot::forward(room));
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        if let Some(slot) = self.channels.remove(&id) {
            slot.room.inbox.end();
            slot.room.closed.cancel();
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        if let Some(slot) = self.channels.get(&id) {
            slot.room.inbox.end();
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _session: &mut Session) -> Result<(), Self::Error> {
        let Some(slot) = self.channels.get(&id) else { return Ok(()) };
        slot.room.inbox.push(data);
        if slot.room.inbox.enough() && data.len() <= TRICKLE_BYTES as usize {
            tokio::time::sleep(TRICKLE_EVERY).await;
        }
        tokio::select! {
            () = self.connection.held.room() => {}
            () = self.connection.cut.cancelled() => {}
        }
        Ok(())
    }

    fn adjust_window(&mut self, id: ChannelId, _current: u32) -> u32 {
        let behind = self.channels.get(&id).is_some_and(|slot| slot.room.inbox.enough());
        if behind { TRICKLE_BYTES } else { WINDOW_BYTES }
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        cols: u32,
        rows: u32,
        _pix_width: u32,
        _pix_height: u32,
        _modes: &[(Mode, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(slot) = self.channels.get_mut(&id).filter(|slot| slot.write.is_some()) else {
            return session.channel_failure(id);
        };
        let term = term.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
        slot.pty = Some(Pty { term, rows: small(rows), cols: small(cols) });
        session.channel_success(id)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.channels.get_mut(&id) {
            Some(slot) if may_set(name) && value.len() <= MOST_VARIABLE_BYTES && slot.env.len() < MOST_VARIABLES => {
                slot.env.push((name.into(), value.into()));
                session.channel_success(id)
            }
            _ => session.channel_failure(id),
        }
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        match self.start(id, Command::Login, true, session) {
            true => session.channel_success(id),
            false => session.channel_failure(id),
        }
    }

    async fn exec_request(&mut self, id: ChannelId, line: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        match self.start(id, Command::Line(line.to_vec()), true, session) {
            true => session.channel_success(id),
            false => session.channel_failure(id),
        }
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Result<(), Self::Error> {
        let sftp = || Command::Argv(vec![OWN_PROGRAM.into(), "sftp".into()]);
        let served = match name {
            "sftp" => self.start(id, sftp(), false, session),
            SUBSYSTEM => self.ask(id),
            _ => false,
        };
        match served {
            true => session.channel_success(id),
            false => session.channel_failure(id),
        }
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        cols: u32,
        rows: u32,
        _pix_width: u32,
        _pix_height: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(slot) = self.channels.get(&id) {
            slot.size.send_replace((small(rows), small(cols)));
        }
        session.channel_success(id)
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _session: &mut Session) -> Result<(), Self::Error> {
        let sender = self.channels.get(&id).and_then(|slot| slot.signals.as_ref());
        if let (Some(sender), Some(number)) = (sender, super::work::signal_number(&signal)) {
            // A client that sends more than the job gets has made its point.
            let _ = sender.try_send(number);
        }
        Ok(())
    }
}

/// What a client may be shown: names in it come from outside.
fn in_words(refusal: &Refusal) -> String {
    refusal.to_string().chars().filter(|c| !c.is_control()).collect()
}

fn small(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// Variables that change how programs speak, not what they load or run.
fn may_set(name: &str) -> bool {
    const NAMES: [&str; 8] =
        ["LANG", "LANGUAGE", "TZ", "COLORTERM", "NO_COLOR", "TERM_PROGRAM", "GIT_PROTOCOL", "EDITOR"];
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    plain && name.len() <= 64 && (NAMES.contains(&name) || name.starts_with("LC_") || name.starts_with("SUBLET_ENV_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_variables_are_taken() {
        for (name, expected) in [
            ("LANG", true),
            ("LC_ALL", true),
            ("SUBLET_ENV_X", true),
            ("PATH", false),
            ("LD_PRELOAD", false),
            ("LC_A=B", false),
            ("", false),
            ("lang", false),
        ] {
            assert_eq!(may_set(name), expected, "{name}");
        }
    }
}
